"""The report's style sheet: light, dark, narrow and printed."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1b2330; --soft: #5a6576; --faint: #8b95a3; --paper: #f6f7f9; --card: #ffffff;
  --line: #e1e5eb; --grid: #eceff3; --link: #1f5fb0; --mark: #fff3c4;
  --blue: #3d74c4; --orange: #e0852a; --green: #2f9a6b; --purple: #8462b8; --red: #cc4b4b;
  --teal: #2ea3ad; --yellow: #d3a921; --pink: #c9679f; --brown: #94745a; --gray: #b4bcc7;
  --heat0: #f3f6fb; --heat1: #8fb4e3; --heat2: #1c4f9c;
  --good: #1f7a4d; --good-bg: #e4f4ea; --warn: #9a5b00; --warn-bg: #fdf0dc;
  --bad: #a9302f; --bad-bg: #fbe6e5; --idle: #536073; --idle-bg: #e9edf2;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root:not(.printing) {
    --ink: #e6eaf0; --soft: #a4afbd; --faint: #77828f; --paper: #10141a; --card: #181d25;
    --line: #2b333f; --grid: #262d38; --link: #82b4f5; --mark: #4a3d10;
    --blue: #6ba3ee; --orange: #f0a04f; --green: #55c291; --purple: #b293e6; --red: #ef7d78;
    --teal: #55c6cf; --yellow: #e6c453; --pink: #e593c2; --brown: #bf9c7f; --gray: #5b6674;
    --heat0: #1c232d; --heat1: #2f67b4; --heat2: #a9d0ff;
    --good: #7fd9a8; --good-bg: #14321f; --warn: #f2c071; --warn-bg: #3a2a0d;
    --bad: #ff9a94; --bad-bg: #3f1b1b; --idle: #b2bdca; --idle-bg: #262e39;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
body { margin: 0; color: var(--ink); background: var(--paper); overflow-wrap: anywhere;
       font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 2px; }
.frame { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav a { display: block; padding: .22rem .6rem; color: var(--soft); text-decoration: none;
        border-left: 2px solid var(--line); font-size: .86rem; line-height: 1.35; }
nav a:hover { color: var(--ink); border-color: var(--blue); }
@media (max-width: 67.99rem) {
  nav { margin: 0 0 1rem; overflow-x: auto; }
  nav ul { display: flex; gap: .4rem; padding-bottom: .3rem; }
  nav a { white-space: nowrap; border: 1px solid var(--line); border-radius: 1rem;
          padding: .12rem .7rem; background: var(--card); }
}
@media (min-width: 68rem) {
  .frame { display: grid; grid-template-columns: 13.5rem minmax(0, 1fr); column-gap: 2.2rem; }
  header { grid-column: 1 / -1; }
  nav { position: sticky; top: 1.2rem; align-self: start; max-height: 95vh; overflow-y: auto; }
}
header { margin-bottom: 1.4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .35rem; letter-spacing: -.01em; }
.eyebrow { font-size: .78rem; font-weight: 600; letter-spacing: .07em; text-transform: uppercase;
           color: var(--faint); margin: 0 0 .25rem; }
h2 { font-size: 1.22rem; line-height: 1.3; margin: 0 0 .9rem; letter-spacing: -.005em; }
h2 .no { color: var(--faint); font-weight: 500; margin-right: .45rem; }
h3 { font-size: 1rem; margin: 1.7rem 0 .5rem; }
h3:first-of-type { margin-top: .4rem; }
h4 { font-size: .88rem; margin: 1.1rem 0 .4rem; color: var(--soft); }
p { margin: .45rem 0; max-width: 52rem; }
.note, .soft { color: var(--soft); } .note { font-size: .88rem; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; margin: .5rem 0;
         list-style: none; }
.chips li { font-size: .82rem; color: var(--soft); background: var(--card);
            border: 1px solid var(--line); border-radius: 1rem; padding: .1rem .65rem; }
.chips b { color: var(--ink); font-weight: 600; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .7rem;
          padding: 1.3rem 1.4rem 1.4rem; margin: 0 0 1.2rem; }
section > :last-child { margin-bottom: 0; }
.missing { background: var(--idle-bg); color: var(--idle); border-radius: .45rem;
           padding: .55rem .8rem; font-size: .9rem; }
.missing b { font-weight: 600; }
.broken { background: var(--bad-bg); color: var(--bad); border-radius: .45rem;
          padding: .55rem .8rem; font-size: .9rem; }

.verdict { border-left: .35rem solid var(--idle); }
.verdict.healthy { border-left-color: var(--good); }
.verdict.improvable { border-left-color: var(--orange); }
.verdict.troubled { border-left-color: var(--red); }
.verdict h2 { font-size: 1.35rem; margin: .15rem 0 .7rem; }
.verdict ul.said { margin: 0 0 1.1rem; padding-left: 1.1rem; max-width: 54rem; }
.verdict ul.said li { margin: .2rem 0; }
.advice { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr));
          gap: .8rem; margin: .5rem 0 .3rem; }
.card { border: 1px solid var(--line); border-radius: .55rem; padding: .8rem .9rem .75rem;
        background: var(--paper); break-inside: avoid; }
.card .change { font-family: var(--mono); font-size: .93rem; margin: 0 0 .5rem; display: flex;
                flex-wrap: wrap; gap: .15rem .5rem; align-items: baseline; }
.card .change b { font-weight: 650; }
.card .change .to { color: var(--good); font-weight: 650; }
.card .change .was { color: var(--soft); }
.card .worth { margin-left: auto; font: 600 .82rem system-ui, sans-serif; color: var(--good);
               background: var(--good-bg); border-radius: 1rem; padding: .05rem .6rem;
               white-space: nowrap; }
.card p { font-size: .89rem; margin: .3rem 0; }
.card .formula { font: .78rem/1.5 var(--mono); color: var(--soft); margin-top: .45rem; }

.scroll { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums;
        min-width: min(100%, 26rem); }
caption { text-align: left; color: var(--soft); font-size: .84rem; padding-bottom: .3rem; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .8rem; }
th, td { padding: .32rem .9rem .32rem 0; border-bottom: 1px solid var(--line); white-space: nowrap;
         vertical-align: baseline; }
th:last-child, td:last-child { padding-right: .3rem; }
tbody tr:last-child td { border-bottom: 0; }
th.num, td.num { text-align: right; }
td.wide { white-space: normal; min-width: 15rem; }
td code { font-size: .84rem; }
code { font-family: var(--mono); font-size: .88em; }
tr:target, li:target, article:target { background: var(--mark); }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 12.8rem), 1fr));
         gap: .7rem 1.2rem; margin: .4rem 0 1.1rem; }
.facts div { min-width: 0; }
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.bar { display: flex; height: 1.5rem; border-radius: .35rem; overflow: hidden; margin: .5rem 0;
       background: var(--idle-bg); gap: 1px; }
.bar span { display: block; min-width: 1px; }
.legend { display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; list-style: none; padding: 0;
          margin: 0 0 1rem; font-size: .86rem; }
.legend li { display: flex; gap: .35rem; align-items: baseline; }
.legend i { width: .68rem; height: .68rem; border-radius: .18rem; display: inline-block; }
.legend b { font-variant-numeric: tabular-nums; font-weight: 600; }
.meter { display: inline-block; width: 5.5rem; height: .55rem; border-radius: .2rem;
         background: var(--idle-bg); margin-right: .6rem; overflow: hidden; text-align: left; }
.meter i { display: block; height: 100%; }
.of { display: inline-block; min-width: 3.4rem; }
figure { margin: .9rem 0 1.2rem; }
figcaption { font-size: .86rem; color: var(--soft); margin-bottom: .15rem; }
.plot { width: 100%; overflow: hidden; }
.plot:empty::before { content: "drawing …"; color: var(--faint); font-size: .85rem; }
.unavailable .plot:empty::before { content: "This browser cannot draw the chart."; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
        gap: 0 1.6rem; }
.pair > * { min-width: 0; }

.rule { border-top: 1px solid var(--line); }
.rule:last-of-type { border-bottom: 1px solid var(--line); }
.rule summary { display: grid; cursor: pointer; list-style: none; gap: .1rem .8rem;
                grid-template-columns: 1rem minmax(11rem, 1.4fr) 8.6rem 6.5rem minmax(8rem, 1fr);
                padding: .5rem .2rem; align-items: baseline; font-size: .9rem; }
.rule summary::-webkit-details-marker { display: none; }
.rule summary::before { content: "▸"; color: var(--faint); }
.rule[open] summary::before { content: "▾"; }
.rule summary:hover { background: var(--paper); }
.rule .body { padding: .1rem .2rem 1rem 1.8rem; }
.rule .body p { margin: .3rem 0; font-size: .9rem; }
.rule .kind { white-space: nowrap; color: var(--faint); font-size: .8rem; margin-left: .4rem; }
.status { font-size: .76rem; font-weight: 600; border-radius: 1rem; padding: .08rem .6rem;
          background: var(--idle-bg); color: var(--idle); justify-self: start;
          white-space: nowrap; }
.status.fired { background: var(--bad-bg); color: var(--bad); }
.status.quiet { background: var(--good-bg); color: var(--good); }
.status.starved { background: var(--warn-bg); color: var(--warn); }
.moments { display: flex; flex-wrap: wrap; gap: .25rem .5rem; list-style: none; padding: 0;
           margin: .4rem 0 1rem; font-size: .83rem; align-items: baseline; }
.moments li { border: 1px solid var(--line); border-radius: .35rem; padding: .02rem .45rem; }
.moments .label { color: var(--soft); border: 0; padding-left: 0; }
.node { border-top: 1px solid var(--line); } .node > summary { cursor: pointer; padding: .5rem 0; }
details.more > summary { cursor: pointer; color: var(--link); font-size: .89rem; margin: .7rem 0; }
pre { font: .8rem/1.5 var(--mono); background: var(--paper); border: 1px solid var(--line);
      border-radius: .4rem; padding: .6rem .8rem; overflow-x: auto; max-height: 22rem; }
footer { color: var(--faint); font-size: .82rem; margin-top: 1.5rem; }
@media (max-width: 40rem) {
  body { font-size: 14.5px; }
  .frame { padding: 1rem .7rem 3rem; }
  section { padding: 1rem .9rem 1.1rem; border-radius: .55rem; }
  h1 { font-size: 1.3rem; } .verdict h2 { font-size: 1.15rem; }
  .rule summary { grid-template-columns: .8rem 1fr auto; }
  .rule summary > :nth-child(3) { grid-column: 2; grid-row: 2; }
  .rule summary > :nth-child(4) { grid-column: 2 / -1; grid-row: 2; justify-self: end; }
  .rule summary > .status { grid-column: 3; grid-row: 1; }
  .rule .body { padding-left: .2rem; }
  .facts { grid-template-columns: 1fr 1fr; font-size: .94em; }
}
@media print {
  @page { margin: 14mm 12mm; }
  body { font-size: 10pt; background: #fff; }
  .frame { display: block; padding: 0; max-width: none; } nav { display: none; }
  section { border: 0; padding: 0; margin: 0 0 1.2rem; }
  .verdict { border-left: .35rem solid; padding-left: .8rem; }
  figure, .card, tr, .bar, .facts div { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; }
  .scroll { overflow: visible; } table { font-size: 8.5pt; }
  th, td { padding-right: .55rem; white-space: normal; }
  .modebar-container, .rule details.more { display: none; }
  .rule:not([open]) summary { padding: .15rem .2rem; }
  a { color: inherit; text-decoration: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
