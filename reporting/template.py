"""The Jinja2 template of a report page: light and dark colours, narrow screens, print; no script, no network."""

HTML = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root{color-scheme:light dark;--ink:#1d2329;--soft:#5c6670;--line:#d9dee3;--paper:#fff;--wash:#f4f6f8;
--good:#1c7c4d;--warn:#95600a;--bad:#b3263a;--info:#2563a8}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa5b1;--line:#343c45;--paper:#14181d;--wash:#1d232a;
--good:#5cc991;--warn:#e2ab4f;--bad:#f0808f;--info:#7cb4f0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:.4rem 0}
h2{font-size:1.2rem;margin:2.4rem 0 .6rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
p,ul{margin:.6rem 0;max-width:75ch}
.subtitle,figcaption,caption,.note{color:var(--soft)}
nav{margin:1rem 0;display:flex;flex-wrap:wrap;gap:.3rem 1rem;font-size:.9rem}
a{color:var(--info)}
.banner{margin:.7rem 0;padding:.6rem .9rem;border-left:4px solid currentColor;background:var(--wash);border-radius:4px}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}.info{color:var(--info)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.7rem;margin:1rem 0}
.card{background:var(--wash);border:1px solid var(--line);border-radius:6px;padding:.6rem .8rem}
.card .label,.card .note{font-size:.82rem;color:var(--soft)}
.card .value{font-size:1.35rem;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.3rem}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{background:var(--wash);white-space:nowrap}
.number{text-align:right;white-space:nowrap}
td.good,td.warn,td.bad{font-weight:600}
figure{margin:1rem 0}
figure svg,figure img{width:100%;height:auto;max-width:100%}
figure svg{fill:currentColor}
figure img{background:#fff;border-radius:6px}
figcaption{font-size:.85rem}
@media print{nav{display:none}h2{break-after:avoid}figure,.card{break-inside:avoid}}
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% if subtitle %}
<p class="subtitle">{{ subtitle }}</p>
{% endif %}
{% for banner in banners %}
<div class="banner {{ banner.verdict }}">{{ banner.text }}</div>
{% endfor %}
{% if sections|length > 1 %}
<nav aria-label="Contents">
{% for section in sections %}
<a href="#{{ section.anchor }}">{{ section.heading }}</a>
{% endfor %}
</nav>
{% endif %}
{% for block in blocks %}
{% if block.kind == "section" %}
<h2 id="{{ block.anchor }}">{{ block.heading }}</h2>
{% elif block.kind == "paragraph" %}
<p>{{ block.text }}</p>
{% elif block.kind == "bullets" %}
<ul>
{% for item in block['items'] %}
<li>{{ item }}</li>
{% endfor %}
</ul>
{% elif block.kind == "cards" %}
<div class="cards">
{% for card in block.cards %}
<div class="card"><div class="label">{{ card.label }}</div><div class="value {{ card.verdict }}">{{ card.value }}</div>\
<div class="note">{{ card.note }}</div></div>
{% endfor %}
</div>
{% elif block.kind == "table" %}
<div class="scroll"><table>
{% if block.caption %}
<caption>{{ block.caption }}</caption>
{% endif %}
<thead><tr>\
{% for cell in block.head %}<th scope="col" class="{{ cell.align }}">{{ cell.text }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in block.rows %}
<tr>{% for cell in row %}<td class="{{ cell.align }} {{ cell.verdict }}">{{ cell.text }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% else %}
<figure role="img" aria-label="{{ block.caption }}">
{% if block.form == "svg" %}
{{ block.svg }}
{% else %}
<img src="{{ block.uri }}" alt="{{ block.caption }}">
{% endif %}
<figcaption>{{ block.caption }}</figcaption>
</figure>
{% endif %}
{% endfor %}
</main>
</body>
</html>
"""
