"""build/bench.json with every sample; build/bench/report.md and its plots for people."""

import json
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from harness import number, quartiles  # noqa: E402


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
    sign = "≤" if f.best == "low" else "≥"
    goal = "" if f.goal is None else f"{sign} {f.goal:.4g}"
    verdict = {None: "", True: "holds", False: "**missed**"}[f.holds()]
    ours = statistics.median(f.all(f.ours))
    if not f.ratios:
        return f"| {f.name} | | {number(ours)} {f.unit} | | {goal} | {verdict} {f.note} |"
    low, middle, high = quartiles(f.ratios)
    floor = statistics.median(f.all(f.floor))
    return (f"| {f.name} | {middle:.2f} ({low:.2f}–{high:.2f}) | {number(ours)} {f.unit} | {number(floor)} {f.unit} "
            f"| {goal} | {verdict} {f.note} |")


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
    ax.set_yticks(range(len(shown)), [f"{f.name} · {f.place}" for f in shown], fontsize=8)
    ax.axvline(1, color="lightgrey", lw=1, zorder=0)
    ax.set_xscale("log")
    ax.set_xlabel("× what stands beside it (dot: median, bar: quartiles, stroke: goal)")
    return save(fig, path)


def plot_curve(name, curve, path):
    """curve: {"x": [...], "xlabel": …, "lines": {label: [...]}}; each line in a panel of its own, units differ."""
    fig, axes = plt.subplots(len(curve["lines"]), 1, figsize=(7, 2.2 * len(curve["lines"])), sharex=True, squeeze=False)
    for ax, (label, values) in zip(axes[:, 0], curve["lines"].items()):
        ax.plot(curve["x"], values, "o-")
        ax.set_xscale("log")
        ax.set_ylim(bottom=0)
        ax.set_title(label, fontsize=9)
        ax.grid(alpha=0.3)
    axes[-1, 0].set_xlabel(curve["xlabel"])
    return save(fig, path)


def save(fig, path):
    fig.tight_layout()
    fig.savefig(path, dpi=110)
    plt.close(fig)
    return path
