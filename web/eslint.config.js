import js from "@eslint/js";
import reactHooks from "eslint-plugin-react-hooks";
import globals from "globals";
import tseslint from "typescript-eslint";

const HOOKS = {
  group: ["react-redux"],
  importNames: ["useSelector", "useDispatch", "useStore"],
  message: "Use the typed hooks from app/hooks.",
};
const SOCKETS = {
  group: ["socket.io-client"],
  message: "Only app/socketConnection uses sockets.",
};
const APP = {
  group: ["@/app/*"],
  message: "The root reducer imports the slices: a slice and its selectors take their own state.",
};

export default tseslint.config(
  { ignores: ["dist", "node_modules"] },
  js.configs.recommended,
  {
    files: ["**/*.{ts,tsx}"],
    extends: [...tseslint.configs.strictTypeChecked, reactHooks.configs.flat["recommended-latest"]],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "no-restricted-imports": ["error", { patterns: [HOOKS, SOCKETS] }],
      "max-lines": ["error", 400],
      // Message bodies become React elements, never HTML: see features/messages/Markdown.
      "no-restricted-syntax": [
        "error",
        {
          selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']",
          message: "Never set HTML: render React elements.",
        },
        { selector: "MemberExpression[property.name='innerHTML']", message: "Never set HTML: render React elements." },
      ],
    },
  },
  { files: ["src/app/hooks.ts"], rules: { "no-restricted-imports": ["error", { patterns: [SOCKETS] }] } },
  { files: ["src/app/socketConnection.ts"], rules: { "no-restricted-imports": ["error", { patterns: [HOOKS] }] } },
  {
    files: ["src/features/**/*{Slice,Selectors}.ts"],
    rules: { "no-restricted-imports": ["error", { patterns: [HOOKS, SOCKETS, APP] }] },
  },
  { files: ["scripts/**/*.mjs", "*.js"], languageOptions: { globals: globals.node } },
);
