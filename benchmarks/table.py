"""The result of a benchmark as Markdown: heading, ceilings, one line a row."""

from __future__ import annotations

from typing import Any

COLUMNS = {
    "backbone": "backbone",
    "precision": "precision",
    "batch": "batch",
    "execution": "execution",
    "mode": "step",
    "episodes_per_second": "episodes/s",
    "spread": "spread %",
    "seconds_per_step": "ms/step",
    "peak_bytes": "peak GiB",
    "flops_per_episode": "GFLOP/episode",
    "arithmetic_share": "% of arithmetic",
    "memory_share": "% of memory",
    "note": "note",
}
SCALES = {
    "spread": 100,
    "seconds_per_step": 1e3,
    "peak_bytes": 2**-30,
    "flops_per_episode": 1e-9,
    "arithmetic_share": 100,
    "memory_share": 100,
}


def markdown(result: dict[str, Any]) -> str:
    """Heading, ceilings and table."""
    where, limits, settings = result["environment"], result["ceilings"], result["settings"]
    parts = [f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in limits.get("flops", {}).items()]
    if "bytes" in limits:
        parts.append(f"copy {limits['bytes'] / 1e9:.4g} GB/s")
    lines = [
        f"{where['device']} ({where['processor']}), torch {where['torch']}, {settings['size']} px, 1-shot.",
        f"Ceilings measured in this run: {', '.join(parts) or 'none'}.",
        "",
        "| " + " | ".join(COLUMNS.values()) + " |",
        "|" + " --- |" * len(COLUMNS),
    ]
    for row in result["rows"]:
        lines.append("| " + " | ".join(cell(name, row[name]) for name in COLUMNS) + " |")
    return "\n".join(lines)


def cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    return f"{value * SCALES.get(name, 1):.4g}" if isinstance(value, float) or name in SCALES else str(value)
