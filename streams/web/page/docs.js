// The API's docs: writes the OpenAPI document out as endpoints, parameters, answers and schemas.

function element(name, content = [], attributes = {}) {
  const node = document.createElement(name);
  node.append(...[content].flat().filter((part) => part !== ""));
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

const code = (text) => element("code", text);
// Descriptions mark code with backticks.
const prose = (text = "") => text.split("`").map((part, place) => (place % 2 ? code(part) : part));
const refName = (ref) => ref.split("/").at(-1);

// A schema's type as text, with a link where it is a named one.
function type(schema) {
  if (schema.$ref) return [element("a", refName(schema.$ref), { href: `#${refName(schema.$ref)}` })];
  if (schema.anyOf) return schema.anyOf.flatMap((one, place) => (place ? [" or ", ...type(one)] : type(one)));
  if (schema.type === "array") return ["list of ", ...type(schema.items ?? {})];
  return [[schema.type ?? "anything", schema.format && `(${schema.format})`].filter(Boolean).join(" ")];
}

function bounds(schema) {
  const said = { default: "default", minimum: "at least", maximum: "at most" };
  return Object.entries(said)
    .filter(([key]) => schema[key] !== undefined && schema[key] !== null)
    .map(([key, words]) => `${words} ${schema[key]}`)
    .join(", ");
}

function table(head, rows) {
  const line = (cells, name) => element("tr", cells.map((cell) => element(name, cell)));
  return element("table", [element("thead", line(head, "th")), element("tbody", rows.map((cells) => line(cells, "td")))]);
}

function parameters(operation) {
  const rows = (operation.parameters ?? []).map((p) => [
    code(p.name), `${p.in}${p.required ? ", required" : ""}`, type(p.schema), prose([p.description, bounds(p.schema)].filter(Boolean).join("; ")),
  ]);
  return rows.length ? [table(["Parameter", "In", "Type", "Meaning"], rows)] : [];
}

function answer([status, response]) {
  return Object.entries(response.content ?? { "": {} }).map(([media, { schema, example }]) => {
    const shown = typeof example === "string" ? example : JSON.stringify(example, null, 2);
    const name = [code(status === "default" ? "4xx, 5xx" : status), " ", ...prose(response.description), ` · ${media} `, ...(schema?.$ref ? type(schema) : [])];
    return element("details", [element("summary", name), example === undefined ? "" : element("pre", shown)]);
  });
}

// The link fills path parameters with the document's own examples.
function address(path, operation) {
  return (operation.parameters ?? [])
    .filter((p) => p.in === "path")
    .reduce((filled, p) => filled.replace(`{${p.name}}`, encodeURIComponent(p.schema.examples?.[0] ?? p.name)), path.slice(1));
}

function endpoint(path, operation) {
  return element("section", [
    element("h2", code(`GET ${path}`)),
    element("p", prose(operation.description ?? operation.summary)),
    ...parameters(operation),
    ...Object.entries(operation.responses).flatMap(answer),
    element("p", element("a", `Try it: ${address(path, operation)}`, { href: address(path, operation) })),
  ]);
}

function named([name, schema]) {
  const rows = Object.entries(schema.properties ?? {}).map(([key, part]) => [code(key), type(part), prose(part.description)]);
  return element("section", [element("h2", name), element("p", prose(schema.description)), table(["Field", "Type", "Meaning"], rows)], { id: name });
}

async function write() {
  const answer = await fetch("openapi.json");
  if (answer.status === 401) {
    document.getElementById("docs").append(element("p", ["This service asks for a token: ", element("a", "sign in on the live page", { href: "." }), " first."]));
    return;
  }
  const api = await answer.json();
  document.getElementById("version").textContent = `version ${api.info.version}`;
  document.getElementById("docs").append(
    element("p", api.info.description),
    ...Object.entries(api.paths).map(([path, operations]) => endpoint(path, operations.get)),
    ...Object.entries(api.components?.schemas ?? {}).map(named),
  );
}

write().catch(() => document.getElementById("docs").append(element("p", "The service does not answer; load this page again.", { class: "away" })));
