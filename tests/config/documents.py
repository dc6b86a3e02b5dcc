"""Documents for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from nightmill.errors import ConfigError, ConfigErrors

PIPELINE = """\
pipeline: ccd
version: "1.0"
parameters: {sigma: 3.0, passes: 2, clean: true, mode: fast}
stages:
  bias:
    per: [instrument, detector]
    inputs:
      frames: {type: raw_bias, min: 3, max: null}
    steps:
      - name: combine
        argv: [python, "{pipeline_dir}/bias.py", "--sigma={parameters.sigma}", "{outputs.master}", "{inputs.frames}"]
        inputs: [frames]
        outputs:
          master: {type: master_bias, calibration: {set: ccd, valid_days_after: 30}}
  science:
    per: [instrument, exposure, detector]
    inputs:
      frame: {type: raw_science}
      bias: {type: master_bias, source: {stage: bias}}
    steps:
      - name: reduce
        argv: ["{python}", "reduce.py", "{inputs.frame}", "{inputs.bias}", "{outputs.image}"]
        inputs: [frame, bias]
        outputs:
          image: {type: image, to: none}
      - name: detect
        call: ccd.detect:main
        arguments: {image: "{inputs.image}", catalog: "{outputs.catalog}", exposure: "{unit.exposure}"}
        inputs: [image]
        outputs:
          catalog: {type: catalog}
"""

CAMPAIGN = """\
campaign: night-1
pipeline: pipeline.yaml
where: "night == 20260110"
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(dedent(text))
    return path


def refusals(load: Callable[..., object], *args: object) -> list[str]:
    """Call what must fail, and return what is wrong, one a text, the paths that they begin with cut to names."""
    with pytest.raises(ConfigError) as caught:
        load(*args)
    error = caught.value
    errors = error.errors if isinstance(error, ConfigErrors) else (error,)
    return [_short(str(each)) for each in errors]


def _short(text: str) -> str:
    first, colon, rest = text.partition(":")
    return Path(first).name + colon + rest if first.startswith("/") else text
