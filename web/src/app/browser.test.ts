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
const undo: (() => void)[] = [];

beforeEach(() => {
  sessionStorage.clear();
  localStorage.clear();
  window.history.replaceState(null, "", "/");
});

afterEach(() => {
  for (const each of undo.splice(0)) each();
  delete window.WARREN_EDGES;
  vi.unstubAllGlobals();
});

describe("edges", () => {
  const answer = (status: number, body: unknown) =>
    vi.stubGlobal("fetch", () => Promise.resolve(new Response(JSON.stringify(body), { status })));

  it("are what the host application lists", async () => {
    window.WARREN_EDGES = ["https://a.example"];
    expect(await findEdges(true)).toEqual(["https://a.example"]);
  });

  it("may be named in the address, in development only", async () => {
    window.history.replaceState(null, "", "/?edge=http://a.example,http://b.example&edge=no-address");
    expect(await findEdges(true)).toEqual(["http://a.example", "http://b.example"]);
    expect(await findEdges(false)).toEqual([window.location.origin]);
  });

  it("are otherwise this origin, and in development those it tells of", async () => {
    answer(200, { edges: ["http://other.example"] });
    expect(await findEdges(true)).toEqual([window.location.origin, "http://other.example"]);
    answer(404, {});
    expect(await findEdges(true)).toEqual([window.location.origin]);
  });
});

describe("tokens", () => {
  const identity = { user_id: "ada", name: "Ada" };

  it("of the development sign-in come from the first edge that answers, and are kept until a fresh one is wanted", async () => {
    const asked: string[] = [];
    vi.stubGlobal("fetch", (url: URL) => {
      asked.push(url.host);
      if (url.host === "dead.example") return Promise.reject(new TypeError("refused"));
      return Promise.resolve(new Response(JSON.stringify({ token: tokenFor("ada") })));
    });
    const provide = developmentTokens(() => ["http://dead.example", "http://alive.example"], sessionStorage);
    const token = await provide({ identity, fresh: false });
    expect(claimsOf(token)?.sub).toBe("ada");
    expect(await provide({ identity, fresh: false })).toBe(token);
    expect(asked).toEqual(["dead.example", "alive.example"]);
    await provide({ identity, fresh: true });
    expect(asked).toHaveLength(4);
  });

  it("that a server will not give are no reason to go on asking", async () => {
    vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 404 })));
    const provide = developmentTokens(() => ["http://a.example"], sessionStorage);
    await expect(provide({ identity, fresh: false })).rejects.toBeInstanceOf(TokenRefused);
  });

  it("of a host application have to be text", async () => {
    await expect(hostedTokens(() => "")({ identity: null, fresh: false })).rejects.toBeInstanceOf(TokenRefused);
    expect(await hostedTokens(() => "t")({ identity: null, fresh: false })).toBe("t");
  });

  it("that are no JWT have no claims", () => expect(claimsOf("nonsense")).toBeNull());

  it.each([
    ["Ada Lovelace", "ada-lovelace"],
    ["  Zoë!  ", "zoe"],
    ["Łukasz 2", "łukasz-2"],
    ["李雷", "李雷"],
    ["—", ""],
  ])("make %j the user %j", (name, id) => expect(userIdFor(name)).toBe(id));
});

describe("the outbox on disk", () => {
  const entry = (body: string) => messageComposed("c1", body).payload;

  it("keeps each user's messages apart, in the order written, until they leave", () => {
    const outbox = createOutboxStorage(localStorage);
    const [one, two] = [entry("one"), { ...entry("two"), composed_at: "9999" }];
    outbox.save("ada", {}, { [two.client_message_id]: two, [one.client_message_id]: one });
    expect(outbox.load("ada")).toEqual([one, two]);
    expect(outbox.load("bob")).toEqual([]);
    outbox.save("ada", { [one.client_message_id]: one }, {});
    expect(outbox.load("ada")).toEqual([two]);
  });

  it("forgets what can't be read", () => {
    localStorage.setItem("warren.outbox.ada.x", "{");
    expect(createOutboxStorage(localStorage).load("ada")).toEqual([]);
    expect(localStorage).toHaveLength(0);
  });
});

it("keeps drafts over a reload, and from the next person", () => {
  const before = store();
  undo.push(persistDrafts(before, sessionStorage));
  before.dispatch(userIdentified(ada));
  before.dispatch(draftChanged({ conversationId: "c1", text: "half a" }));
  before.dispatch(signedOut());
  const after = store();
  undo.push(persistDrafts(after, sessionStorage));
  after.dispatch(userIdentified({ ...ada, id: "bob" }));
  expect(selectDraft(after.getState(), "c1")).toBe("");
  after.dispatch(signedOut());
  after.dispatch(userIdentified(ada));
  expect(selectDraft(after.getState(), "c1")).toBe("half a");
});

it("lets the address name what is open, both ways", () => {
  window.history.replaceState(null, "", "/#c=c1");
  const page = store();
  undo.push(syncUrl(page));
  expect(selectOpenId(page.getState())).toBe("c1");
  page.dispatch(openConversation("c2"));
  expect(window.location.hash).toBe("#c=c2");
  page.dispatch(conversationClosed());
  expect(window.location.hash).toBe("");
  window.history.replaceState(null, "", "/#c=c3");
  window.dispatchEvent(new PopStateEvent("popstate"));
  expect(selectOpenId(page.getState())).toBe("c3");
});

it("counts as attention only a visible tab in a focused window", () => {
  const focus = vi.spyOn(document, "hasFocus").mockReturnValue(true);
  vi.spyOn(document, "visibilityState", "get").mockReturnValue("visible");
  const page = store();
  undo.push(watchWindowFocus(page));
  expect(page.getState().screen.windowFocused).toBe(true);
  focus.mockReturnValue(false);
  window.dispatchEvent(new Event("blur"));
  expect(page.getState().screen.windowFocused).toBe(false);
});
