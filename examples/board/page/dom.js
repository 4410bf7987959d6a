// The three calls on the document that every part of the page makes.

export const $ = (id) => document.getElementById(id);

export function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = String(text);
  made.className = className;
  return made;
}

export const small = (text) => element("small", text);
