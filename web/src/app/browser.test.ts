// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { signedOut, userIdentified } from "@/features/auth/authSlice";
import { claimsOf, developmentTokens, hostedTokens, TokenRefused, userIdFor } from "@/features/auth/tokens";
import { openConversation } from "@/features/conversations/openConversation";
import { conversationClosed, selectOpenId } from "@/features/conversations/screenSlice";
import { draftChanged, selectDraft } from "@/features/messages/draftsSlice";
import { messageComposed } from "@/features/messages/messageEvents";
import { tokenFor } from "../../test/fakeWarren";
import { syncUrl, persistDrafts, watchWindowFocus } from "./browser";
import { findEdges } from "./edges";
import { createOutboxStorage } from "./outboxStorage";
import { makeStore } from "./store";

const store = () =>
  makeStore({ edges: () => [], token: () => Promise.resolve(""), outbox: { load: () => [], save: () => undefined } });
const ada = { id: "ada", name: "Ada", picture: null };
const cleanups: (() => void)[] = [];

beforeEach(() => {
  sessionStorage.clear();
  localStorage.clear();
  window.history.replaceState(null, "", "/");
});

afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup();
  delete window.WARREN_EDGES;
  vi.unstubAllGlobals();
});

describe("edges", () => {
  const stubFetch = (status: number, body: unknown) =>
    vi.stubGlobal("fetch", () => Promise.resolve(new Response(JSON.stringify(body), { status })));

  it("come from the host application", async () => {
    window.WARREN_EDGES = ["https://a.example"];
    expect(await findEdges(true)).toEqual(["https://a.example"]);
  });

  it("come from the URL in development only", async () => {
    window.history.replaceState(null, "", "/?edge=http://a.example,http://b.example&edge=no-address");
    expect(await findEdges(true)).toEqual(["http://a.example", "http://b.example"]);
    expect(await findEdges(false)).toEqual([window.location.origin]);
  });

  it("default to this origin, and in development to those of /dev/config", async () => {
    stubFetch(200, { edges: ["http://other.example"] });
    expect(await findEdges(true)).toEqual([window.location.origin, "http://other.example"]);
    stubFetch(404, {});
    expect(await findEdges(true)).toEqual([window.location.origin]);
  });
});

describe("tokens", () => {
  const identity = { user_id: "ada", name: "Ada" };

  it("of the development sign-in come from the first edge that answers and are cached until a fresh one is requested", async () => {
    const requestedHosts: string[] = [];
    vi.stubGlobal("fetch", (url: URL) => {
      requestedHosts.push(url.host);
      if (url.host === "dead.example") return Promise.reject(new TypeError("refused"));
      return Promise.resolve(new Response(JSON.stringify({ token: tokenFor("ada") })));
    });
    const provide = developmentTokens(() => ["http://dead.example", "http://alive.example"], sessionStorage);
    const token = await provide({ identity, fresh: false });
    expect(claimsOf(token)?.sub).toBe("ada");
    expect(await provide({ identity, fresh: false })).toBe(token);
    expect(requestedHosts).toEqual(["dead.example", "alive.example"]);
    await provide({ identity, fresh: true });
    expect(requestedHosts).toHaveLength(4);
  });

  it("are refused when the server has no development sign-in", async () => {
    vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 404 })));
    const provide = developmentTokens(() => ["http://a.example"], sessionStorage);
    await expect(provide({ identity, fresh: false })).rejects.toBeInstanceOf(TokenRefused);
  });

  it("of the host application must be non-empty text", async () => {
    await expect(hostedTokens(() => "")({ identity: null, fresh: false })).rejects.toBeInstanceOf(TokenRefused);
    expect(await hostedTokens(() => "t")({ identity: null, fresh: false })).toBe("t");
  });

  it("without JWT format have no claims", () => expect(claimsOf("nonsense")).toBeNull());

  it.each([
    ["Ada Lovelace", "ada-lovelace"],
    ["  Zoë!  ", "zoe"],
    ["Łukasz 2", "łukasz-2"],
    ["李雷", "李雷"],
    ["—", ""],
  ])("of the development sign-in turn the name %j into the user id %j", (name, id) => expect(userIdFor(name)).toBe(id));
});

describe("the outbox storage", () => {
  const entry = (body: string) => messageComposed("c1", body).payload;

  it("stores the messages of each user separately and in order, until they are removed", () => {
    const outbox = createOutboxStorage(localStorage);
    const [one, two] = [entry("one"), { ...entry("two"), composed_at: "9999" }];
    outbox.save("ada", {}, { [two.client_message_id]: two, [one.client_message_id]: one });
    expect(outbox.load("ada")).toEqual([one, two]);
    expect(outbox.load("bob")).toEqual([]);
    outbox.save("ada", { [one.client_message_id]: one }, {});
    expect(outbox.load("ada")).toEqual([two]);
  });

  it("removes entries that are not valid JSON", () => {
    localStorage.setItem("warren.outbox.ada.x", "{");
    expect(createOutboxStorage(localStorage).load("ada")).toEqual([]);
    expect(localStorage).toHaveLength(0);
  });
});

it("restores drafts after a reload, for the same user only", () => {
  const before = store();
  cleanups.push(persistDrafts(before, sessionStorage));
  before.dispatch(userIdentified(ada));
  before.dispatch(draftChanged({ conversationId: "c1", text: "half a" }));
  before.dispatch(signedOut());
  const after = store();
  cleanups.push(persistDrafts(after, sessionStorage));
  after.dispatch(userIdentified({ ...ada, id: "bob" }));
  expect(selectDraft(after.getState(), "c1")).toBe("");
  after.dispatch(signedOut());
  after.dispatch(userIdentified(ada));
  expect(selectDraft(after.getState(), "c1")).toBe("half a");
});

it("keeps the URL and the open conversation in sync", () => {
  window.history.replaceState(null, "", "/#c=c1");
  const page = store();
  cleanups.push(syncUrl(page));
  expect(selectOpenId(page.getState())).toBe("c1");
  page.dispatch(openConversation("c2"));
  expect(window.location.hash).toBe("#c=c2");
  page.dispatch(conversationClosed());
  expect(window.location.hash).toBe("");
  window.history.replaceState(null, "", "/#c=c3");
  window.dispatchEvent(new PopStateEvent("popstate"));
  expect(selectOpenId(page.getState())).toBe("c3");
});

it("treats only a visible tab in a focused window as focused", () => {
  const focus = vi.spyOn(document, "hasFocus").mockReturnValue(true);
  vi.spyOn(document, "visibilityState", "get").mockReturnValue("visible");
  const page = store();
  cleanups.push(watchWindowFocus(page));
  expect(page.getState().screen.windowFocused).toBe(true);
  focus.mockReturnValue(false);
  window.dispatchEvent(new Event("blur"));
  expect(page.getState().screen.windowFocused).toBe(false);
});
