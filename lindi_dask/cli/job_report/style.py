"""What a report looks like, on light and on dark screens."""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

# The series' colors are those of Okabe and Ito, which all eyes can tell apart (https://jfly.uni-koeln.de/color/)
STYLE: Final = """
:root { color-scheme: light dark; --page: #fff; --ink: #1d2129; --faint: #646b78; --rule: #dfe2e8; --card: #f5f6f8;
  --bad: #b3261e; --good: #1a7f4b; --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #cc79a7; }
@media (prefers-color-scheme: dark) { :root { --page: #15181e; --ink: #e4e7ec; --faint: #98a0ae; --rule: #313743;
  --card: #1e222a; --bad: #ff8a80; --good: #62d394; --s0: #56b4e9; --s1: #f0883e; --s2: #2fc79b; --s3: #e29bc0; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  max-width: 1080px; padding: 28px 24px 64px; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 36px 0 8px; }
p { margin: 4px 0 10px; max-width: 110ch; }
.faint, figcaption { color: var(--faint); font-size: 13px; }
.bad { color: var(--bad); } .good { color: var(--good); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(172px, 1fr)); gap: 10px; margin: 20px 0 0; }
.tiles div { background: var(--card); border-radius: 8px; padding: 10px 14px; }
.tiles b { display: block; font-size: 19px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--faint); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--faint); font-weight: 500; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.short { white-space: nowrap; }
td.wide { width: 30%; min-width: 160px; } td.path { overflow-wrap: anywhere; min-width: 15em; }
code { font: 12.5px ui-monospace, monospace; overflow-wrap: break-word; }
details { margin-top: 8px; } summary { cursor: pointer; color: var(--faint); font-size: 13px; }
figure { margin: 8px 0 0; } figcaption span { margin-right: 16px; white-space: nowrap; }
svg { display: block; width: 100%; height: auto; }
svg .grid { stroke: var(--rule); stroke-width: 1; } svg .mark { stroke: var(--faint); stroke-dasharray: 3 4; }
svg .tick { fill: var(--faint); font-size: 11.5px; } svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .trace { fill: none; stroke: var(--s0); stroke-width: 0.8; }
svg.bar { height: 12px; margin-top: 4px; border-radius: 3px; }
.series0 { stroke: var(--s0); fill: var(--s0); background: var(--s0); }
.series1 { stroke: var(--s1); fill: var(--s1); background: var(--s1); }
.series2 { stroke: var(--s2); fill: var(--s2); background: var(--s2); }
.series3 { stroke: var(--s3); fill: var(--s3); background: var(--s3); }
svg.bar rect { stroke: none; }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 18px; }
.pictures > figure > svg, .pictures img { background: var(--card); border-radius: 8px; width: 100%; height: 200px;
  object-fit: contain; image-rendering: pixelated; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; } }
"""
