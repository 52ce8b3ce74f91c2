#!/usr/bin/env python3
"""Write the bundled demo data set: 400 pictures with captions to train on and 100 held out.

    scripts/make_demo_data.py [SOURCE] [TARGET]

SOURCE is the train folder of the emoji captions (captions.csv with the columns file, caption, group; images/), by
default ../shared/data/emoji-captions/train; TARGET is examples/data/emoji. The choice is a pure function of the source:
pictorial single-code-point emoji of the families below with captions of at most six words; then the order of the hashes
of their file names, family by family. The PNG files are copied byte for byte.
"""

import csv
import hashlib
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CAPTION_LICENCE = "LICENSE.cldr.Unicode-3.0"
HELD_OUT_OF_TEN = 2
MOST_WORDS = 6
MOST_BYTES = 3_000_000

# Family: (how many to take, code point ranges, both ends included). Families follow the Unicode blocks.
FAMILIES = {
    "faces": (88, "1f600-1f644 1f910-1f917 1f920-1f92f 1f970-1f97a 1f9d0 1fae0-1fae9 263a 2639 1f4a9 1f47b 1f47d 1f916 1f383"),
    "colours": (25, "1f7e0-1f7eb 1f534-1f535 26aa-26ab 2b1b-2b1c 2764 1f499-1f49c 1f9e1 1f5a4 1f90d-1f90e 1fa75-1fa77"),
    "animals": (100, "1f400-1f43c 1f43e-1f43f 1f980-1f9ae 1fab0-1fab3 1fabc 1face 1f577 1f54a 1fabf 1facf"),
    "plants": (22, "1f330-1f344 1f490 1f940 1fab4 1fab5 1fab7 1fabb 1fabe 2618 1f4ae 1f3f5"),
    "food": (80, "1f32d-1f32f 1f345-1f37f 1f382 1f950-1f96f 1f9c0-1f9cb 1fad0-1fadb 2615"),
    "sky": (25, "1f300-1f321 1f324-1f32c 2600-2604 26c4-26c8 2b50 1fa90 2728 2744 1f4a7 1f525 1f30d-1f30f"),
    "places": (28, "1f3a0-1f3a2 1f3d4-1f3f0 1f5fb-1f5ff 1f6d5-1f6d6 26f0-26f5 26fa 26fd 26e9"),
    "vehicles": (34, "1f680-1f6a4 1f6b2 1f6e5-1f6fc 1f3cd-1f3ce 2708 26f5"),
    "things": (98, "1f380-1f381 1f388-1f39f 1f3a3-1f3c0 1f3c5-1f3c6 1f3cf-1f3d3 1f3f8-1f3fa 1f451-1f462 1f484 1f48d-1f48e "
               "1f4a1 1f4a3 1f4b0-1f4bf 1f4d0-1f4e6 1f4f0-1f4ff 1f50b-1f513 1f526-1f52e 1f56f-1f570 1f576 1f579 1f58c-1f58d "
               "1f941-1f94f 1f9e2-1f9ff 1fa70-1fa9f 1faa0-1faa9 1f6aa 1f6bf 1f6cb-1f6cf 231a-231b 23f0 260e 2693 26bd-26be 2702"),
}
# Little to see, or hardly to be told from a neighbour.
DULL = re.compile(
    r"\b(person|people|woman|women|man|men|boy|girl|child|baby symbol|button|keycap|sign|symbol|arrow|oncoming|flag|"
    r"moon face|quarter|gibbous|suit|medium|kissing face|paper|receipt|ticket|tickets|papers|envelope|page|chart|calendar|"
    r"clipboard|folder|dividers|memo|newspaper|bookmark|hook|knot|sewing|safety pin|paperclip|level slider|control knobs|"
    r"antenna bars|currency|white flower|name badge|x-ray|vibration mode|prayer beads|ledger|videocassette|scroll|pager|seat|map of|license|banknote|dollar|euro|pound|yen|disk|inbox|outbox|tray|index|heel|military|bow|coffin|headstone|cigarette|bomb|"
    r"dagger|pistol|syringe|razor|plunger|bikini|tumbler|mahjong|love|post office|prohibited|no |litter|hospital)\b",
    re.IGNORECASE,
)


def ranges(text):
    """Parse `1f600-1f64f 263a` into pairs of code points."""
    for part in text.split():
        first, _, last = part.partition("-")
        yield int(first, 16), int(last or first, 16)


def key(file):
    """A fixed pseudo-random order that does not depend on the rest of the set."""
    return hashlib.sha256(f"mmae demo {file}".encode()).hexdigest()


def choose(rows):
    """Return (family, row) of the chosen pictures, family by family in the order of their hashes."""
    chosen, seen = [], set()
    for family, (count, text) in FAMILIES.items():
        spans = list(ranges(text))
        fitting = []
        for row in rows:
            code = re.fullmatch(r"images/emoji_u([0-9a-f]+)\.png", row["file"])
            caption = row["caption"]
            if not code or row["file"] in seen or len(caption.split()) > MOST_WORDS or DULL.search(caption):
                continue
            if any(first <= int(code[1], 16) <= last for first, last in spans):
                fitting.append(row)
        fitting.sort(key=lambda row: key(row["file"]))
        print(f"{family:9} {len(fitting):4} fit, {min(count, len(fitting)):4} taken", file=sys.stderr)
        seen.update(row["file"] for row in fitting)
        chosen += [(family, row) for row in fitting[:count]]
    return chosen


def split(chosen, held_out):
    """Cut each family in two at the same rate, so that the held-out pictures are of the same kinds."""
    parts = {"train": [], "held_out": []}
    for number, (family, row) in enumerate(chosen):
        # Spread evenly over the list, which is in hash order inside each family.
        out = (number + 1) * held_out // len(chosen) > number * held_out // len(chosen)
        parts["held_out" if out else "train"].append((family, row))
    return parts


def write(parts, source, target):
    total = 0
    for name, rows in parts.items():
        folder = target / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "images").mkdir(parents=True)
        with open(folder / "captions.csv", "w", encoding="utf-8", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(["file", "caption", "family"])
            for family, row in sorted(rows, key=lambda item: item[1]["file"]):
                shutil.copyfile(source / row["file"], folder / row["file"])
                total += (folder / row["file"]).stat().st_size
                out.writerow([row["file"], row["caption"], family])
        print(f"{name}: {len(rows)} pictures", file=sys.stderr)
    shutil.copyfile(source.parent / CAPTION_LICENCE, target / CAPTION_LICENCE)
    print(f"{total} bytes of pictures", file=sys.stderr)
    if total > MOST_BYTES:
        sys.exit(f"more than {MOST_BYTES} bytes")


def main():
    arguments = [Path(argument) for argument in sys.argv[1:]]
    source = arguments[0] if arguments else ROOT.parent / "shared/data/emoji-captions/train"
    target = arguments[1] if len(arguments) > 1 else ROOT / "examples/data/emoji"
    with open(source / "captions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = choose(rows)
    write(split(chosen, len(chosen) * HELD_OUT_OF_TEN // 10), source, target)


if __name__ == "__main__":
    main()
