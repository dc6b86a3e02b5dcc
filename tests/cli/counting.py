"""A small pipeline that counts: its file types, its document, and its program."""

from __future__ import annotations

TYPES = """\
  flat:
    format: fits
    template: "cam_{exposure:04d}_flat_c{campaign:04d}a{attempt:02d}.fits"
    metadata: {gain: {keywords: [GAIN], type: float}}
  stars: {template: "cam_{exposure:04d}_stars_c{campaign:04d}a{attempt:02d}.txt"}
"""
PIPELINE = """\
pipeline: counting
version: "1.0"
parameters: {gain: 2.0}
stages:
  count:
    per: [exposure]
    inputs:
      frame: {type: raw_science}
      masks: {type: mask, min: 0, max: 3, match: [detector]}
    steps:
      - name: flatten
        argv: ["{python}", "{pipeline_dir}/flatten.py", "{inputs.frame}", "{outputs.flat}", "{parameters.gain}"]
        inputs: [frame, masks]
        outputs:
          flat: {type: flat}
          peaks: {produces: peaks.txt, to: none}
      - name: measure
        argv: ["sh", "-c", "test {unit.exposure} != 3 && echo $MODE $(cat $2) > $3", "sh", "{inputs.flat}",
               "{inputs.peaks}", "{outputs.stars}"]
        inputs: [flat, peaks]
        environment: {MODE: deep}
        outputs:
          stars: {type: stars}
"""
FLATTEN = """\
import struct, sys
source, target, gain = sys.argv[1:]
cards = open(source, "rb").read(2880).decode()
number = int(next(cards[at:at + 80] for at in range(0, 2880, 80) if cards[at:].startswith("EXPNUM"))[10:].split()[0])
values = {"SIMPLE": "T", "BITPIX": "-32", "NAXIS": "2", "NAXIS1": "4", "NAXIS2": "4"}
values |= {"GAIN": str(float(gain)), "EXPNUM": str(number)}
header = "".join(f"{name:8}= {value:>20}".ljust(80) for name, value in values.items()) + "END"
data = struct.pack(">16f", *[number * float(gain)] * 16)
open(target, "wb").write(header.ljust(2880).encode() + data.ljust(2880, b"\\0"))
open("peaks.txt", "w").write(f"{number} peaks\\n")
"""
