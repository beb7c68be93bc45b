"""The style sheet of the report: light and dark, wide and narrow, on screen and on paper."""

from __future__ import annotations

__all__ = ["STYLE"]

# The colours of data are of Okabe and Ito's kind: blue and orange differ for every eye, and each
# series also differs in shape (line, dot, dashes).
STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --edge: #e2e6eb; --text: #17202b; --soft: #56616f;
  --grid: #e9ecf0; --axis: #9aa4b0;
  --blue: #0a6fb8; --orange: #d0540b; --good: #0b7a53; --warn: #a15c00;
  --s0: #3d8fc9; --s1: #e08a3c; --s2: #2f9f80; --s3: #b678b0; --s4: #c9a227; --s5: #8a94a0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1a2029; --edge: #2b333f; --text: #e7ebf0; --soft: #a2adba;
    --grid: #28303b; --axis: #66717e;
    --blue: #62b4f0; --orange: #ff9a57; --good: #4fcf9d; --warn: #f0b45a;
    --s0: #4a9ad4; --s1: #dc8b45; --s2: #3ba98a; --s3: #bd86b8; --s4: #cfab3b; --s5: #7d8894;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1160px; margin: 0 auto; padding: 32px 24px 48px; }
h1 { margin: 0; font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; font-weight: 650;
  overflow-wrap: anywhere; }
h1 .more { color: var(--soft); font-weight: 400; font-size: 20px; letter-spacing: 0; }
sub { font-size: 0.68em; vertical-align: baseline; position: relative; top: 0.24em; }
h2 { margin: 0; font-size: 16px; font-weight: 620; }
p { margin: 0; }
.level { color: var(--soft); margin-top: 4px; overflow-wrap: anywhere; }
.state { margin-top: 16px; max-width: 78ch; font-size: 17px; }
.state b { white-space: nowrap; }
.warning { margin-top: 12px; color: var(--warn); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 14px;
  margin: 24px 0 0; padding: 0; }
.card { background: var(--card); border: 1px solid var(--edge); border-radius: 10px;
  padding: 16px 18px; min-width: 0; }
figure { margin: 0; }
.figures dt { color: var(--soft); font-size: 14px; }
.figures dd { margin: 0; }
.figures .value { font-size: 25px; font-weight: 640; letter-spacing: -0.01em; line-height: 1.35; }
.figures .more { color: var(--soft); font-size: 14px; line-height: 1.4; }
.figures .good { color: var(--good); }
.figures .open { color: var(--warn); }
.plots { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 14px;
  margin-top: 14px; }
figcaption { margin-top: 8px; color: var(--soft); font-size: 14px;
  line-height: 1.45; }
.card > p { color: var(--soft); font-size: 14px; margin-top: 8px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 6px 0 8px;
  padding: 0; font-size: 14px; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: 7px; }
.key { flex: none; width: 18px; height: 0; border-top: 2.5px solid var(--blue); }
.key.running, .key.expected { border-color: var(--orange); }
.key.validation, .key.round { width: 9px; height: 9px; border: 0; border-radius: 50%;
  background: var(--orange); }
.key.round { background: var(--blue); opacity: 0.55; }
.key.saved { outline: 2px solid var(--text); outline-offset: 1.5px; }
.key.bar { width: 12px; height: 12px; border: 0; border-radius: 2px; background: var(--s0); }
.key.bar-1 { background: var(--s1); } .key.bar-2 { background: var(--s2); }
.key.bar-3 { background: var(--s3); } .key.bar-4 { background: var(--s4); }
.key.bar-5 { background: var(--s5); }
svg { display: block; width: 100%; height: auto; overflow: visible; margin-top: 2px; }
svg text { font-size: 13px; fill: var(--soft); }
svg .note { fill: var(--text); paint-order: stroke; stroke: var(--card); stroke-width: 4px;
  stroke-linejoin: round; }
svg polyline, svg line { vector-effect: non-scaling-stroke; }
svg .grid { stroke: var(--grid); } svg .axis, svg .tick { stroke: var(--axis); }
svg .level { stroke: var(--soft); stroke-width: 1.3; stroke-dasharray: 6 4; }
svg polyline { fill: none; stroke: var(--blue); stroke-width: 1.6; stroke-linejoin: round;
  pointer-events: none; }
svg polyline.running, svg polyline.expected { stroke: var(--orange); stroke-width: 2.2; }
svg .validation { fill: var(--orange); stroke: var(--card); stroke-width: 1.2; }
svg .saved { stroke: var(--text); stroke-width: 2.2; r: 5px; }
svg .round { fill: var(--blue); fill-opacity: 0.55; r: 2.4px; }
svg circle:hover { stroke: var(--text); stroke-width: 2.2; }
svg .strip { fill: transparent; } svg .strip:hover { fill: var(--axis); fill-opacity: 0.22; }
svg .bar { fill: var(--s0); } svg .bar:hover { fill-opacity: 0.75; }
svg .bar-1 { fill: var(--s1); } svg .bar-2 { fill: var(--s2); } svg .bar-3 { fill: var(--s3); }
svg .bar-4 { fill: var(--s4); } svg .bar-5 { fill: var(--s5); }
.reading p { color: var(--text); font-size: 15px; }
.reading .plainly { font-size: 17px; text-align: center; margin: 12px 0; }
summary { cursor: pointer; font-weight: 620; }
.settings { columns: 2; column-gap: 32px; }
table { border-collapse: collapse; margin: 10px 0 16px; width: 100%; font-size: 14px;
  break-inside: avoid; }
caption { text-align: left; font-weight: 620; padding-bottom: 4px; }
th, td { text-align: left; vertical-align: top; padding: 4px 12px 4px 0;
  border-top: 1px solid var(--grid); overflow-wrap: anywhere; }
th { font-weight: 400; color: var(--soft); width: 46%; }
details { margin-top: 14px; }
footer { margin-top: 20px; color: var(--soft); font-size: 14px; }
@media (max-width: 760px) {
  main { padding: 20px 14px 32px; }
  h1 { font-size: 25px; }
  .settings { columns: 1; }
  .plots { grid-template-columns: minmax(0, 1fr); }
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; }
  .figures > :first-child { grid-column: 1 / -1; }
  .card { padding: 14px; }
  svg text { font-size: 17px; }
  svg .validation { r: 5px; } svg .saved { r: 7px; } svg .round { r: 3.2px; }
  .figures .value { font-size: 22px; }
}
@media print {
  body { background: none; } .card { break-inside: avoid; }
}
"""
