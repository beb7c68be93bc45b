"""The report's page without its contents: style, for light and dark, wide and narrow, and order."""

from __future__ import annotations

from string import Template

__all__ = ["DYNAMICS_PAGE", "MODEL_PAGE", "PAGE", "card"]

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<title>$title</title>
<style>
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --edge: #e2e6eb;
  --good: #0b7a53; --warn: #a15c00; $light }
@media (prefers-color-scheme: dark) {
  :root { --page: #12161c; --card: #1a2029; --edge: #2b333f; --good: #4fcf9d; --warn: #f0b45a;
    $dark }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1200px; margin: 0 auto; padding: 28px 14px 40px; display: grid; gap: 14px;
  grid-template-columns: minmax(0, 1fr); }
h1 { margin: 0; font-size: 30px; line-height: 1.2; font-weight: 650; }
h2 { margin: 0 0 6px; font-size: 16px; font-weight: 620; }
p, figure, dl, dd { margin: 0; padding: 0; }
svg { display: block; width: 100%; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
header { display: flex; flex-wrap: wrap; gap: 14px 28px; align-items: center; }
header > div:first-child { flex: 1 1 320px; }
.drawings { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 auto; justify-content: center; }
.drawings figure { width: 168px; text-align: center; }
.soft, .more, dt, figcaption, .plots p, footer { color: var(--soft); font-size: 14px;
  line-height: 1.45; }
.state { margin-top: 14px; max-width: 72ch; font-size: 17px; }
.warning, .open { color: var(--warn); }
.good { color: var(--good); }
.card { background: var(--card); border: 1px solid var(--edge); border-radius: 10px;
  padding: 14px; min-width: 0; }
.figures, .plots, .words { display: grid; gap: 14px; }
.figures { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
.words { grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
.value { font-size: 25px; font-weight: 640; line-height: 1.35; }
figcaption { margin-top: 6px; }
.card > p { font-size: 15px; }
.card > p + p { margin-top: 8px; }
pre + h2 { margin-top: 14px; }
pre { margin: 0 0 10px; padding: 10px; overflow-x: auto; background: var(--page);
  border-radius: 6px; font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: 560px; margin: 6px 0 12px; font-size: 14px;
  overflow-wrap: normal; }
th, td { text-align: right; padding: 4px 24px 4px 0; border-bottom: 1px solid var(--grid); }
th { font-weight: 400; color: var(--soft); }
th:first-child { text-align: left; }
summary { cursor: pointer; font-weight: 620; }
summary + * { margin-top: 10px; }
@media (max-width: 700px) { .figures > :first-child { grid-column: 1 / -1; } }
@media print { body { background: none; } .card { break-inside: avoid; } }
</style>
</head>
"""

PAGE = Template(
    _HEAD
    + """<body>
<main>
<header><div><h1>$heading</h1><p class="soft">$data</p><p class="state">$state</p>$warning</div>
$drawings</header>
<dl class="figures">$figures</dl>
$use
<div class="plots">$plots</div>
$molecules
<div class="words">
<section class="card"><h2>What the certified error means</h2>
<p>For every geometry the model gives two energies that enclose the one a converged calculation
(SCF) at the same level of theory would find: the <b>bracket</b>. Its width, the certified error,
is an upper limit of the model's error there, known without a reference calculation.</p>
<p>The upper end is the model's energy itself, which by the variational principle cannot be too
low. The lower end assumes that the functional is convex in the density matrix, which has held in
practice. The width says nothing of the error of the level of theory, and forces converge more
slowly than energies.</p></section>
<section class="card"><h2>When it is wide</h2>
<p>Wide everywhere: train on from here. Wide on a few geometries only (a maximum far above
the mean): sample longer, or hotter, so that the model sees more of their kind. Wide in your own
dynamics: the molecule has gone where the run never was; look at
<code>atoms.calc.energy_bracket</code> as it moves, and train at that temperature.</p>
<p>1 kcal/mol, called chemical accuracy, is 1,594 microhartree (µEh) or 43.4 millielectronvolt
(meV).</p></section>
</div>
<details class="card"><summary>All settings</summary>$settings</details>
<footer>Made by ase_srdft$version from metrics.jsonl, config.yaml and samples.traj in this
directory.</footer>
</main>
</body>
</html>
"""
)

MODEL_PAGE = Template(
    _HEAD
    + """<body>
<main>
<header><div><h1>$heading</h1><p class="state">$scope</p></div>
<div class="drawings">$structure</div></header>
<section class="card"><pre>$card</pre></section>
<section class="card"><h2>Use it</h2><pre>$use</pre></section>
<div class="plots">$plots</div>
<footer>Made by ase_srdft $version from the model file, and from the log of its training where that
is beside it.</footer>
</main>
</body>
</html>
"""
)

DYNAMICS_PAGE = Template(
    _HEAD
    + """<body>
<main>
<header><div><h1>$heading</h1><p class="soft">$data</p><p class="state">$state</p></div>
<div class="drawings">$drawing</div></header>
<dl class="figures">$figures</dl>
<div class="plots">$plots</div>
<section class="card"><h2>What the brackets mean</h2>
<p>Each energy of the trajectory lies in a <b>bracket</b> with the energy that a converged
calculation (SCF) at the same level of theory would find: its width is an upper limit of the error.
<i>The model alone</i> is the bracket of the network's own state, before it was corrected: the
narrower it is, the less each step costs. The lower end assumes that the functional is convex in the
density matrix, which has held in practice. The width says nothing of the error of the level of
theory, nor of the timestep.</p></section>
<details class="card"><summary>All settings</summary>$settings</details>
<footer>Made by ase_srdft $version from md.traj and config.yaml in this folder.</footer>
</main>
</body>
</html>
"""
)


def card(name: str, value: str, *more: str) -> str:
    """A number on a card, with what is worth knowing about it; markup as it is."""
    return (
        f'<div class="card"><dt>{name}</dt><dd class="value">{value}</dd>'
        f'<dd class="more">{"<br/>".join(more)}</dd></div>'
    )
