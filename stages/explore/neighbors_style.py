"""How the page of `mmprep neighbors --html` looks: plain CSS, light and dark, on wide screens and on phones."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f5f6f8; --card: #ffffff; --line: #e2e5ea; --text: #1b1f26; --soft: #5d6675; --accent: #3563e9;
  --track: #e6e9ef; --empty: #eceef2; --note: #fff6dd; --note-text: #6b4e00; --note-line: #e8b931;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #111419; --card: #1b2028; --line: #2c333e; --text: #e9ecf1; --soft: #9aa5b5; --accent: #7ea2ff;
    --track: #2e3642; --empty: #262c36; --note: #2e2712; --note-text: #f2d98a; --note-line: #b58d1c;
  }
}
*, ::before { box-sizing: border-box; margin: 0; }
body {
  max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
.item { display: flex; gap: 1.5rem; align-items: center; }
.item .photo { width: 200px; flex: none; }
h1 { font-size: 1.75rem; line-height: 1.2; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.125rem; line-height: 1.3; }
section { margin-top: 2.5rem; }
.soft { color: var(--soft); font-size: 0.875rem; }
.item .soft { margin-top: 0.5rem; overflow-wrap: anywhere; }
.id { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.8125rem; }
.note {
  margin-top: 0.75rem; padding: 0.5rem 0.875rem; border-left: 3px solid var(--note-line); border-radius: 6px;
  background: var(--note); color: var(--note-text); font-size: 0.875rem; overflow-wrap: anywhere;
}
.none {
  margin-top: 0.75rem; padding: 1.25rem; border: 1px dashed var(--line); border-radius: 12px; color: var(--soft);
}
ol {
  display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 1rem; margin-top: 1rem; padding: 0;
  list-style: none; counter-reset: rank;
}
li {
  position: relative; counter-increment: rank; display: flex; flex-direction: column; padding: 0.625rem;
  border: 1px solid var(--line); border-radius: 12px; background: var(--card);
}
li::before {
  content: counter(rank); position: absolute; top: 1rem; left: 1rem; min-width: 1.5rem; padding: 0 0.375rem;
  border-radius: 0.75rem; background: rgb(20 24 32 / 65%); color: #ffffff; font-size: 0.75rem; line-height: 1.5rem;
  text-align: center;
}
.photo { aspect-ratio: 1; border-radius: 8px; overflow: hidden; background: #ffffff; }
.photo img { display: block; width: 100%; height: 100%; object-fit: contain; }
.photo.empty {
  display: grid; place-items: center; padding: 0.75rem; background: var(--empty); color: var(--soft);
  font-size: 0.8125rem; text-align: center;
}
.title {
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; margin-top: 0.625rem;
  font-size: 0.875rem; line-height: 1.35; overflow-wrap: anywhere;
}
li .id { margin-top: 0.25rem; overflow-wrap: anywhere; }
.shared { color: var(--accent); font-size: 0.75rem; }
.weight {
  display: flex; justify-content: space-between; gap: 0.5rem; margin-top: auto; padding-top: 0.625rem;
  color: var(--soft); font-size: 0.8125rem;
}
.weight b { color: var(--text); font-variant-numeric: tabular-nums; }
.bar { height: 4px; margin-top: 0.375rem; border-radius: 2px; overflow: hidden; background: var(--track); }
.bar i { display: block; height: 100%; background: var(--accent); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media (max-width: 56rem) { ol { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
@media (max-width: 40rem) {
  body { padding: 1.25rem 1rem 2rem; }
  h1 { font-size: 1.25rem; }
  .item { gap: 1rem; }
  .item .photo { width: 112px; }
  ol {
    grid-auto-flow: column; grid-template-columns: none; grid-auto-columns: 9.5rem; gap: 0.75rem;
    margin: 1rem -1rem 0; padding: 0 1rem 0.5rem; overflow-x: auto; scroll-snap-type: x proximity;
    scroll-padding-left: 1rem;
  }
  li { scroll-snap-align: start; }
}
"""
