// Draws what shall be there with as few changes as possible, so that focus, selection and open parts stay. Text only ever becomes
// text: there is no way to make markup of it.

const SVG = "http://www.w3.org/2000/svg";
const drawn = new WeakMap(); // element → {key, props}

/** An element that shall be there. `props`: attributes; `key`; `css`: custom properties; `on…`: handlers. */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children };
}

/** Makes these the children of an element. */
export function draw(parent, children, inside) {
  const wanted = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  const there = new Map();
  for (const node of parent.childNodes) {
    there.set(drawn.get(node)?.key, node);
  }
  const counts = new Map();
  const nodes = wanted.map((child) => {
    const tag = typeof child === "object" ? child.tag : "#text";
    const nth = (counts.get(tag) ?? 0) + 1;
    counts.set(tag, nth);
    const key = typeof child === "object" && child.props.key !== undefined ? `${tag}=${child.props.key}` : `${tag}#${nth}`;
    const node = there.get(key) ?? make(tag, inside);
    there.delete(key);
    if (tag === "#text") {
      drawn.set(node, { key });
      if (node.data !== String(child)) node.data = String(child);
      return node;
    }
    dress(node, child.props, key);
    draw(node, child.children, node.namespaceURI === SVG ? SVG : undefined);
    return node;
  });
  // By what is kept and not by key: the same node may be on its way out and back again.
  const kept = new Set(nodes);
  for (const node of [...parent.childNodes]) if (!kept.has(node)) node.remove();
  let at = parent.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
}

function make(tag, inside) {
  if (tag === "#text") return document.createTextNode("");
  return inside || tag === "svg" ? document.createElementNS(SVG, tag) : document.createElement(tag);
}

function dress(node, props, key) {
  const before = drawn.get(node)?.props ?? {};
  for (const name of new Set([...Object.keys(before), ...Object.keys(props)])) {
    const value = props[name];
    if (name === "key" || value === before[name]) continue;
    if (name === "css") {
      for (const [property, to] of Object.entries(value)) node.style.setProperty(property, to);
    } else if (name.startsWith("on")) {
      node[name] = value ?? null;
    } else if (value === undefined || value === null || value === false) {
      node.removeAttribute(name);
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  drawn.set(node, { key, props });
}

/** A table: `heads` of columns, and rows of cells; each cell tells its head where the screen is narrow. */
export function table(name, heads, rows) {
  return h("table", { "aria-label": name, role: "table" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads.map((head) => h("th", { scope: "col", role: "columnheader" }, head)))),
    h("tbody", { role: "rowgroup" }, rows.map(({ key, kind, cells }) =>
      h("tr", { key, role: "row", class: kind }, cells.map((cell, at) => at === 0
        ? h("th", { scope: "row", role: "rowheader", key: at }, cell)
        : h("td", { role: "cell", "data-head": heads[at], key: at }, cell))))));
}
