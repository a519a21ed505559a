// The document, changed only where it differs, so that nothing flickers and no focus is lost.

const held = new WeakMap();

export const byId = (id) => document.getElementById(id);
export const stamp = (id) => byId(id).content.firstElementChild.cloneNode(true);

export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function show(node, wanted) {
  if (node.hidden === wanted) node.hidden = !wanted;
}

export function mark(node, text) {
  show(node, text !== "");
  say(node, text);
}

export function dress(node, names) {
  if (node.getAttribute("class") !== names) node.setAttribute("class", names);
}

export function wear(node, name, wanted) {
  if (node.classList.contains(name) !== wanted) node.classList.toggle(name, wanted);
}

export function set(node, attribute, value) {
  if (node.getAttribute(attribute) !== value) node.setAttribute(attribute, value);
}

// A length along a bar, as a share of it; set through the style object, which the policy allows.
export function stretch(node, property, share) {
  const length = `${(100 * Math.min(1, Math.max(0, share))).toFixed(2)}%`;
  if (node.style.getPropertyValue(property) !== length) node.style.setProperty(property, length);
}

// Makes the children of `parent` those of `items`, keeping the nodes of keys that stay.
export function keep(parent, items, keyOf, create, update) {
  const before = held.get(parent) ?? new Map();
  const after = new Map();
  const wanted = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, node] of before) if (!wanted.has(key)) node.remove();
  for (const [key, item] of wanted) {
    const node = before.get(key) ?? create(item);
    if (parent.children[after.size] !== node) parent.insertBefore(node, parent.children[after.size] ?? null);
    update(node, item, after.size);
    after.set(key, node);
  }
  held.set(parent, after);
}
