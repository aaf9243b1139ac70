// Makes and changes elements. What comes from peers only ever becomes text or an attribute's value.

export const byId = (id) => document.getElementById(id);

/** Make an element; children are elements or text, and null is left out. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Set an element's text if it is another one: an unchanged node is not announced anew. */
export function setText(target, text) {
  const wanted = String(text);
  if (target.textContent !== wanted) target.textContent = wanted;
}

/** Set or remove a data attribute if that changes it. */
export function setData(target, name, value) {
  if (value == null) delete target.dataset[name];
  else if (target.dataset[name] !== String(value)) target.dataset[name] = String(value);
}

/** Show text in a place that is hidden while there is none. */
export function showText(target, text) {
  setText(target, text);
  target.hidden = !text;
}

/**
 * Make a parent's children be those of the items, in order; a child whose key stays is kept, and
 * with it focus, selection and scroll position.
 */
export function keyed(parent, items, keyOf, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const kept = new Set();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const known = before.get(key);
    const child = known && !kept.has(known) ? known : make(item);
    kept.add(child);
    child.dataset.key = key;
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
}

/** Fill a list of terms: pairs of a term and what it is, a text or an element. */
export function fillTerms(list, pairs) {
  keyed(
    list,
    pairs,
    ([term]) => term,
    ([term]) => element("div", {}, element("dt", {}, term), element("dd")),
    (item, [, value]) => {
      const shown = item.lastElementChild;
      if (value instanceof Node) shown.replaceChildren(value);
      else setText(shown, value);
    },
  );
}
