"""`dpnet-lite data`: what is there of a published data set, what is made once, and its episode lists."""

from __future__ import annotations

import argparse
from pathlib import Path

from dpnet_lite.cli.options import PUBLISHED, OneLineParser, check_output, escaped, parse_path, say, whole

_EXAMPLES = """examples:
  dpnet-lite data check pascal5i --root data/pascal
  dpnet-lite data prepare coco20i --root data/coco --workers 8
  dpnet-lite data episodes fss1000 --root data/fss1000 --shots 1
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog, parser.formatter_class = _EXAMPLES, argparse.RawDescriptionHelpFormatter
    jobs = parser.add_subparsers(dest="job", required=True, parser_class=OneLineParser)
    check = jobs.add_parser("check", allow_abbrev=False, help="say what is there, what is missing, what is wrong")
    prepare = jobs.add_parser("prepare", allow_abbrev=False, help="make masks that are made once")
    episodes = jobs.add_parser("episodes", allow_abbrev=False, help="draw the frozen lists, compare their hashes")
    for job in (check, prepare, episodes):
        job.add_argument("name", choices=PUBLISHED, help="the data set")
        job.add_argument("--root", type=parse_path, required=True, help="its folder, in the official layout")
    lists = "list files of your own; for FSS-1000 the folder of the class lists"
    for job in (check, episodes):
        job.add_argument("--lists", type=parse_path, help=lists)
    cache = "folder for counts and masks (default: dpnet_lite in your cache folder)"
    for job in (prepare, episodes):
        job.add_argument("--cache", type=parse_path, help=cache)
    check.add_argument("--deep", action="store_true", help="decode every image and mask, which takes a while")
    prepare.add_argument("--download", action="store_true", help="get what is missing (PASCAL-5i alone)")
    prepare.add_argument("--workers", type=whole(1, 1_024), default=1, help="processes that make masks (default: 1)")
    episodes.add_argument("--out", type=parse_path, help="folder (default: outputs/episodes/NAME)")
    episodes.add_argument("--shots", type=whole(1, 1_000), nargs="+", help="shots of the lists (default: 1 5)")
    episodes.add_argument("--folds", type=whole(0), nargs="+", help="folds of the lists (default: all)")


def run(args: argparse.Namespace) -> None:
    """Say what the job found or did; ValueError where something is missing, wrong or different."""
    from dpnet_lite.experiments.progress import Stages
    from dpnet_lite.published.check import check_data, prepare_data, write_episodes
    from dpnet_lite.published.episode_lists import SHOTS
    from dpnet_lite.storage.caches import default_cache
    from dpnet_lite.storage.files import locked

    root, steps = args.root.expanduser(), Stages()
    if args.job == "check":
        report = check_data(args.name, root, args.lists, deep=args.deep, steps=steps)
    else:
        cache = args.cache or default_cache()
        if args.job == "prepare":
            settings = {"download": args.download, "workers": args.workers, "cache_folder": cache}
            say("\n".join(map(escaped, prepare_data(args.name, root, **settings, steps=steps))))
            return
        output = args.out or Path("outputs/episodes") / args.name
        check_output(output, is_folder=True)
        folds, shots = args.folds and list(dict.fromkeys(args.folds)), list(dict.fromkeys(args.shots or SHOTS))
        chosen = {"lists": args.lists, "folds": folds, "shots": shots}
        with locked(output / ".lock", f"another process writes to {output}", waits=False):
            report = write_episodes(args.name, root, output, **chosen, cache_folder=cache, steps=steps)
    say("\n".join(map(escaped, report.lines)))
    if report.problem is not None:
        raise ValueError(report.problem)
