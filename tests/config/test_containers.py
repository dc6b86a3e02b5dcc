"""Images of a pipeline and of a site, as their documents say."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.config.pipeline import load_pipeline
from nightmill.config.site import load_site
from nightmill.errors import ConfigErrors
from nightmill.model.container import ImageCopy

A, B, C = (f"{name}@sha256:{name * 64}" for name in "abc")


def pipeline(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(f"pipeline: p\nversion: '1'\n{text}")
    return path


STAGES = f"""\
stages:
  one:
    per: [exposure]
    image: {B}
    inputs: {{frame: {{type: raw}}}}
    steps:
      - {{name: own, argv: [a], image: {C}}}
      - {{name: none, argv: [a], image: none}}
      - {{name: stages, argv: [a]}}
  two:
    per: [exposure]
    inputs: {{frame: {{type: raw}}}}
    steps: [{{name: pipelines, argv: [a]}}]
"""


def images(path: Path) -> dict[str, str]:
    return {step.name: step.image for stage in load_pipeline(path).stages for step in stage.steps}


def test_a_step_has_the_image_that_is_said_nearest_to_it(tmp_path: Path) -> None:
    assert images(pipeline(tmp_path, f"image: {A}\n{STAGES}")) == {"own": C, "none": "", "stages": B, "pipelines": A}
    loaded = load_pipeline(tmp_path / "pipeline.yaml")
    assert (loaded.image, loaded.stages[0].image) == ("", "")
    assert "image" not in load_pipeline(pipeline(tmp_path, STAGES)).stages[1].model_dump_json()


@pytest.mark.req("F40")
def test_an_image_by_tag_is_refused_with_its_line(tmp_path: Path) -> None:
    text = STAGES.replace(B, "reduce:2026.1").replace(C, f"reduce@sha256:{'c' * 63}")
    with pytest.raises(ConfigErrors) as refused:
        load_pipeline(pipeline(tmp_path, f"image: reduce\n{text}"))
    assert [str(each).partition("pipeline.yaml:")[2] for each in refused.value.errors] == [
        f"{place}: {image!r} does not say which image for ever, as a tag may change: write NAME@sha256:DIGEST"
        for place, image in (
            ("3: image", "reduce"),
            ("7: stages.one.image", "reduce:2026.1"),
            ("10: stages.one.steps.own.image", f"reduce@sha256:{'c' * 63}"),
        )
    ]


def test_layers_reach_an_image(tmp_path: Path) -> None:
    pipeline(tmp_path, STAGES)
    (tmp_path / "c.yaml").write_text(
        f"campaign: c\npipeline: pipeline.yaml\noverrides: {{stages: {{two: {{image: {B}}}}}}}\n"
    )
    loaded = load_campaign(tmp_path / "c.yaml", settings=(f"pipeline.stages.one.steps.none.image={A}",))
    found = {step.name: step.image for stage in loaded.pipeline.stages for step in stage.steps}
    assert found == {"own": C, "none": A, "stages": B, "pipelines": B}
    loaded = load_campaign(tmp_path / "c.yaml", settings=(f"pipeline.image={A}", "pipeline.stages.two.image=none"))
    assert loaded.pipeline.stages[1].steps[0].image == ""


SITE = "site: s\nfile_types: [types.yaml]\nstores: {backbone: {url: b}}\n"


def test_what_a_site_runs_images_with(tmp_path: Path) -> None:
    (tmp_path / "types.yaml").write_text("file_types: {}\n")
    (tmp_path / "nightmill.yaml").write_text(SITE)
    assert load_site(tmp_path).containers.runtime is None
    (tmp_path / "nightmill.yaml").write_text(
        f"{SITE}containers:\n  runtime: bubblewrap\n  images:\n    {A}: images/a\n    sha256:{'b' * 64}: /images/b\n"
        f"    {C}: {{path: images/c, digest: sha256:{'d' * 64}}}\n"
        "  bind: {/opt/code: code}\n"
    )
    said = load_site(tmp_path).containers
    assert said.copy_of(A) == ImageCopy(path=tmp_path / "images/a", digest=f"sha256:{'a' * 64}")
    assert said.copy_of(B) == ImageCopy(path=Path("/images/b"), digest=f"sha256:{'b' * 64}")
    assert said.copy_of(C) == ImageCopy(path=tmp_path / "images/c", digest=f"sha256:{'d' * 64}")
    assert said.copy_of(f"d@sha256:{'d' * 64}") is None
    assert said.bind == {"/opt/code": tmp_path / "code"}


def test_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "types.yaml").write_text("file_types: {}\n")
    (tmp_path / "nightmill.yaml").write_text(f"{SITE}containers:\n  runtime: bublewrap\n")
    with pytest.raises(ConfigErrors, match=r"nightmill\.yaml:5: containers\.runtime is 'bublewrap' and should be"):
        load_site(tmp_path)
    (tmp_path / "nightmill.yaml").write_text(f"{SITE}containers: {{images: {{reduce: 3}}, bind: {{/a: [b]}}}}\n")
    with pytest.raises(ConfigErrors, match=r"images\.reduce is 3 and should be a path or a mapping"):
        load_site(tmp_path)
    (tmp_path / "nightmill.yaml").write_text(f"{SITE}containers: {{images: {{'{A}': {{path: a, digest: x}}}}}}\n")
    with pytest.raises(ConfigErrors, match=r"digest: 'x' is not a digest; write sha256:DIGEST"):
        load_site(tmp_path)
    (tmp_path / "nightmill.yaml").write_text(
        f"{SITE}containers:\n  images: {{reduce: /images}}\n  bind: {{opt/../code: .}}\n"
    )
    with pytest.raises(ConfigErrors) as refused:
        load_site(tmp_path)
    assert [str(each).partition("nightmill.yaml:")[2] for each in refused.value.errors] == [
        "5: containers.images.reduce is not a digest; write NAME@sha256:DIGEST, or sha256:DIGEST",
        "6: containers.bind.opt/../code is not a path; write the whole path in the image, as /opt/code",
    ]
