"""build/bench.json with every sample; build/bench/report.md and its plots for people."""

import json
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator  # noqa: E402

from harness import number, quartiles, target  # noqa: E402


def write(report, folder, json_path):
    folder.mkdir(parents=True, exist_ok=True)
    json_path.write_text(json.dumps({"machine": report.machine, "figures": [f.record() for f in report.figures],
                                     "curves": report.curves}, indent=1))
    plots = []
    if any(f.ratios for f in report.figures):
        plots.append(plot_ratios(report.figures, folder / "ratios.png"))
    for name, curve in report.curves.items():
        plots.append(plot_curve(name, curve, folder / f"{name}.png"))
    (folder / "report.md").write_text(markdown(report, plots))


def markdown(report, plots):
    m = report.machine
    text = [f"# Bench, {m['at']}", "",
            f"{m['cpus']} × {m['cpu']}, Linux {m['kernel']}." + (" A quick run: not for quoting." if m["quick"] else ""),
            "Ratios of two things run in turns: the median of the pairs, and their quartiles. docs/bench.md says how to read this.",
            ""]
    for place in dict.fromkeys(f.place for f in report.figures):
        text += [f"## {place}", "", "| | ratio | ours | beside | goal | |", "|---|---|---|---|---|---|"]
        text += [line(f) for f in report.figures if f.place == place]
        text.append("")
    text += [f"![{p.stem}]({p.name})" for p in plots]
    return "\n".join(text) + "\n"


def line(f):
    if f.failed:
        return f"| {f.name} | not taken | | | | {f.failed.replace('|', '/')} |"
    goal = target(f)
    remark = "; ".join(filter(None, [{None: "", True: "holds", False: "**MISSED**"}[f.holds()], f.note]))
    ours = statistics.median(f.all(f.ours))
    if not f.ratios:
        return f"| {f.name} | | {number(ours)} {f.unit} | | {goal} | {remark} |"
    low, middle, high = quartiles(f.ratios)
    floor = statistics.median(f.all(f.floor))
    return (f"| {f.name} | {middle:.2f} ({low:.2f}–{high:.2f}) | {number(ours)} {f.unit} | {number(floor)} {f.unit} "
            f"| {goal} | {remark} |")


def plot_ratios(figures, path):
    shown = [f for f in figures if f.ratios][::-1]
    fig, ax = plt.subplots(figsize=(9, 0.32 * len(shown) + 1.2))
    for y, f in enumerate(shown):
        low, middle, high = quartiles(f.ratios)
        colour = {None: "grey", True: "tab:green", False: "tab:red"}[f.holds()]
        ax.plot([low, high], [y, y], color=colour, lw=5, alpha=0.4)
        ax.plot(middle, y, "o", color=colour)
        if f.goal is not None:
            ax.plot(f.goal, y, "|", color="black", ms=14)
    ax.set_yticks(range(len(shown)), [f"{f.name} · {f.place}{' ↑' if f.best == 'high' else ''}" for f in shown], fontsize=8)
    ax.axvline(1, color="lightgrey", lw=1, zorder=0)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    subs = (1, 2, 5) if high / low > 4 else (1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    plain_ticks(ax.xaxis, LogLocator(subs=subs))
    ax.set_xlabel("× what stands beside it (dot: median, bar: quartiles, stroke: goal; ↑: more is better)")
    return save(fig, path)


def plain_ticks(axis, locator):
    """Numbers as people write them."""
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda x, _: ""))


def plot_curve(name, curve, path):
    """curve: {"x": [...], "xlabel": …, "lines": {label: [...]}}; each line in a panel of its own, units differ."""
    fig, axes = plt.subplots(len(curve["lines"]), 1, figsize=(7, 2.2 * len(curve["lines"])), sharex=True, squeeze=False)
    for ax, (label, values) in zip(axes[:, 0], curve["lines"].items()):
        ax.plot(curve["x"], values, "o-")
        ax.set_xscale("log")
        ax.set_xticks(curve["x"], [f"{x:,}" for x in curve["x"]])
        ax.minorticks_off()
        ax.set_ylim(0, max(values) * 1.15 or 1)
        ax.set_title(label, fontsize=9)
        ax.grid(alpha=0.3)
    axes[-1, 0].set_xlabel(curve["xlabel"])
    return save(fig, path)


def save(fig, path):
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)
    return path
