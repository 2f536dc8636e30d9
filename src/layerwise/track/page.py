"""The frame and style of the report's page: wide screens, phones, paper and the dark."""

_STYLE = """
:root{--bg:#f6f6f3;--surface:#fff;--ink:#1d2025;--muted:#666d78;--line:#e3e3de;--grid:#ecece8;--val:#2b5fd9;
--train:#e07b39;--other:#8b93a1;--miss:#d2442f;
--warn-bg:#fff6e0;--warn-line:#e6c35c;--strong:#fff;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--bg:#131518;--surface:#1b1e22;--ink:#e7e7e4;--muted:#9aa1ac;
--line:#30343a;--grid:#2a2e33;--val:#7ba4ff;--train:#f0985b;
--other:#7d8593;--miss:#ff7a63;--warn-bg:#2d2614;--warn-line:#7d6722;--strong:#101215}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 24px 40px}
h1{font-size:30px;line-height:1.15;letter-spacing:-.02em;margin:0 0 8px;overflow-wrap:anywhere}
h2{font-size:18px;letter-spacing:-.01em;margin:0 0 12px}
h3{font-size:14px;margin:0 0 8px}
p{margin:0 0 12px;max-width:75ch}
.note,small,.missing{color:var(--muted);font-size:13px}
.note{margin:10px 0 0}
header,section,.warnings{background:var(--surface);border:1px solid var(--line);border-radius:12px;
padding:22px 24px;margin-bottom:16px}
header{display:grid;grid-template-columns:1fr auto;gap:18px 32px;align-items:start}
.intro p{color:var(--muted);margin:0;font-size:16px}
.headline{text-align:right;display:flex;flex-direction:column}
.headline span{color:var(--muted);font-size:13px}
.headline strong{font-size:46px;line-height:1.1;letter-spacing:-.03em;color:var(--val);
font-variant-numeric:tabular-nums;white-space:nowrap}
header dl{grid-column:1/-1;display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px 24px;
margin:0;padding-top:16px;border-top:1px solid var(--line)}
dt{color:var(--muted);font-size:12.5px}
dd{margin:0;overflow-wrap:anywhere}
.warnings{background:var(--warn-bg);border-color:var(--warn-line)}
.warnings ul{margin:0;padding-left:20px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px}
.cards div{border:1px solid var(--line);border-radius:8px;padding:10px 14px;display:flex;flex-direction:column}
.cards span{color:var(--muted);font-size:13px}
.cards strong{font-size:21px;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
.full{width:100%}
th,td{padding:6px 28px 6px 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:middle}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--muted);font-weight:500;font-size:13px;white-space:nowrap}
tbody th{font-weight:500}
th small{display:block;font-weight:400}
.num{text-align:right;white-space:nowrap}
.full td.bar{width:190px}
.scroll+.gallery{margin-top:16px}
td.bar{padding-left:12px}
td.long{min-width:220px}
.own{color:var(--val)}
.own th{font-weight:650}
.pairs th{width:200px;color:var(--muted);font-weight:400;vertical-align:top;white-space:nowrap}
.pairs td{overflow-wrap:anywhere}
svg{display:block;width:100%;height:auto;font-family:inherit}
svg.interval{width:160px;min-width:90px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:24px 32px}
figure{margin:0;min-width:0}
.chart figcaption{display:flex;justify-content:space-between;gap:4px 16px;flex-wrap:wrap;margin-bottom:4px;
font-size:14px}
.keys{display:flex;gap:14px;font-size:13px;color:var(--muted)}
.key b{color:var(--ink);font-weight:600;margin-left:6px;font-variant-numeric:tabular-nums}
.swatch{display:inline-block;width:12px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle;
background:var(--c)}
.train{--c:var(--train)}.val{--c:var(--val)}.other{--c:var(--other)}
.grid{stroke:var(--grid)}
.axis{stroke:var(--other);stroke-opacity:.6}
text{fill:var(--muted);font-size:11px}
.line,.faint{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.faint{stroke-width:1;stroke-opacity:.3}
.dot{fill:var(--c)}
.whisker{stroke:var(--c);stroke-width:4;stroke-linecap:round;stroke-opacity:.35}
.band rect{fill:transparent}
.mark{opacity:0;fill:var(--c);stroke:var(--surface);stroke-width:1.5}
.rule{stroke:var(--other);stroke-width:1}
.band:hover .mark{opacity:1}
.beside{display:flex;flex-wrap:wrap;gap:24px 40px;align-items:flex-start}
.beside>*{flex:1 1 300px;min-width:0}
.beside>.alone{flex-basis:100%}
.cell{fill:var(--other);fill-opacity:.08}
.cell.hit,.cell.miss{fill:color-mix(in srgb,var(--c) calc(var(--shade)*100%),var(--cell));fill-opacity:1}
.hit{--c:var(--val)}.miss{--c:var(--miss)}
svg.matrix{--cell:var(--bg)}
.count{font-size:11px;fill:var(--ink)}
.count.strong{fill:var(--strong);font-weight:600}
.scatters{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:18px 22px}
.scatter figcaption{overflow-wrap:anywhere}
.scatter svg{border:1px solid var(--line);border-radius:6px}
.points{fill:none;stroke:var(--c);stroke-width:4.4;stroke-linecap:round;stroke-opacity:.75}
.place{font-size:15px;font-weight:700;fill:var(--ink);stroke:var(--surface);stroke-width:3px;paint-order:stroke}
.classes{flex-wrap:wrap;gap:4px 16px;max-width:none}
.blob{display:inline-block;width:10px;height:10px;border-radius:50%;margin-right:6px;background:var(--c)}
.k0{--c:#3b6fd4}.k1{--c:#e07b39}.k2{--c:#2f9e62}.k3{--c:#d2442f}.k4{--c:#8f63c7}.k5{--c:#94694f}.k6{--c:#dc6fb0}
.k7{--c:#7a8794}.k8{--c:#b3a125}.k9{--c:#2bafc0}.k-rest{--c:var(--other)}
.gallery{display:flex;flex-wrap:wrap;gap:16px}
.picture.small{flex:0 1 116px}
.picture.wide{flex:1 1 420px;max-width:100%}
.picture img{display:block;max-width:100%;border-radius:6px;border:1px solid var(--line)}
.picture.small img{width:100%}
.pixels{image-rendering:pixelated}
.picture figcaption{font-size:12.5px;color:var(--muted);margin-top:5px;line-height:1.35;overflow-wrap:anywhere}
.missing{display:block;border:1px dashed var(--line);border-radius:6px;padding:16px 8px}
.commands dt{margin-top:10px}.commands dt:first-child{margin-top:0}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
.commands code{display:block;background:var(--bg);border-radius:6px;padding:8px 12px;overflow-x:auto;
white-space:pre}
pre{background:var(--bg);border-radius:6px;padding:14px;margin:8px 0 0;overflow-x:auto}
summary{cursor:pointer;font-weight:600;padding:4px 0}
details+details{margin-top:8px}
footer{color:var(--muted);font-size:13px;text-align:center;padding-top:8px}
@media (max-width:760px){header{grid-template-columns:1fr}.headline{text-align:left}}
@media (max-width:480px){body{font-size:14px}main{padding:10px 10px 28px}header,section,.warnings{padding:16px 14px;
border-radius:10px;margin-bottom:10px}h1{font-size:24px}
.headline strong{font-size:38px}header dl{grid-template-columns:1fr 1fr;gap:10px 16px}
.cards{grid-template-columns:1fr 1fr}.full td.bar,.full th.bar{display:none}.pairs th{width:auto;white-space:normal;
min-width:96px}
.scatters{grid-template-columns:1fr 1fr;gap:14px 10px}.full{font-size:13px}.full th,.full td{padding-right:8px}
.commands code{white-space:pre-wrap;overflow-wrap:anywhere}
svg.interval{width:100px}.picture.small{flex-basis:calc(33% - 11px)}th,td{padding-right:12px}
thead th,thead .num{white-space:normal}}
@media print{:root{--bg:#fff;--surface:#fff;--ink:#000;--muted:#444;--line:#ccc;--grid:#e5e5e5;--val:#2b5fd9;
--train:#c8611f;--other:#777;--miss:#c23a26;--warn-bg:#fff;--strong:#fff;color-scheme:light}
body{font-size:10.5pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}main{max-width:none;padding:0}
header,section,.warnings{border-radius:0;border-width:0 0 1px;padding:10pt 0;margin:0}
section,figure,tr,.cards div{break-inside:avoid}h2{break-after:avoid}.charts{grid-template-columns:1fr 1fr}
.scatters{grid-template-columns:repeat(3,1fr)}.picture.wide{flex:0 1 60%}
.scroll{overflow:visible}pre,.commands code{white-space:pre-wrap}
details::details-content{content-visibility:visible;display:block;block-size:auto}}
"""

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
"""


def page(title: str, body: str, style: str = "") -> str:
    """A page of markup: `title` and `body` are escaped already; `style` is added to that of all pages."""
    head = f"{_HEAD}<title>{title}</title><style>{_STYLE}{style}</style></head>"
    return f"{head}\n<body><main>\n{body}\n<footer>Written by Layerwise.</footer></main></body></html>\n"
