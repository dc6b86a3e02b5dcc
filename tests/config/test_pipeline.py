from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.pipeline import load_pipeline
from nightmill.errors import ConfigErrors
from tests.config.documents import PIPELINE, refusals, write


def problems(tmp_path: Path, *changes: tuple[str, str]) -> list[str]:
    """Load the pipeline with parts of its text replaced."""
    text = PIPELINE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return refusals(load_pipeline, write(tmp_path, "pipeline.yaml", text))


def test_load(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path, "pipeline.yaml", PIPELINE))
    assert (pipeline.name, pipeline.version, pipeline.directory) == ("ccd", "1.0", str(tmp_path))
    assert [stage.name for stage in pipeline.stages] == ["bias", "science"]
    assert [step.name for step in pipeline.stage("science").steps] == ["reduce", "detect"]
    assert pipeline.stage("bias").inputs["frames"].max is None
    assert pipeline.stage("bias").steps[0].outputs["master"].calibration is not None
    assert pipeline.parameters == {"sigma": 3.0, "passes": 2, "clean": True, "mode": "fast"}


def test_unknown_key_is_told_with_its_line_and_a_guess(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, ("call: ccd", "cal: ccd"), ("arguments:", "argumnets:"))[:1]
    assert problem == "pipeline.yaml:27: unknown key stages.science.steps.detect.cal (did you mean 'call'?)"


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        ("pipeline: ccd", "pipeline: ccd\nauthor: me"),
        ('"1.0"', "1.0"),
        ("min: 3", "min: three"),
        ("raw_science", "[raw_science]"),
        ("{type: catalog}", "{typ: catalog}"),
        ("valid_days_after: 30", "maturity: certifed"),
    )
    assert sorted(found) == [
        "pipeline.yaml:15: stages.bias.steps.combine.outputs.master.calibration.maturity is 'certifed' and should be"
        " 'draft' or 'certified' (did you mean 'certified'?)",
        "pipeline.yaml:19: stages.science.inputs.frame.type is a list and should be a text",
        "pipeline.yaml:2: unknown key author; known here: pipeline, version, description, parameters, bundle, stages,"
        " image, junk, intermediates, differences",
        "pipeline.yaml:32: unknown key stages.science.steps.detect.outputs.catalog.typ (did you mean 'type'?)",
        "pipeline.yaml:3: version is 1.0 and should be a text; put it in quotes",
        "pipeline.yaml:9: stages.bias.inputs.frames.min is 'three' and should be a whole number",
    ]


def written(body: str) -> tuple[str, str]:
    """Give the first step of the pipeline a file."""
    return "inputs: [frames]\n", f"inputs: [frames]\n        files: {{in.sof: {body}}}\n"


FILES = [
    (
        *written("{lines: ['{inputs.frame}']}"),
        "files.in.sof.lines: {inputs.frame}: 'frame' is not an input of the step",
    ),
    (*written("{lines: ['{inputs.frames.a-b}']}"), "{inputs.frames.a-b}: 'a-b' cannot be the name of a key"),
    (
        *written("{lines: ['{inputs.frames:06d}']}"),
        "{inputs.frames:06d}: a path has no format; write a key of the file, as {inputs.ROLE.exposure:06d}",
    ),
    (*written("{lines: ['{files.in.sof:>9}']}"), "{files.in.sof:>9}: a path has no format"),
    (*written("{lines: ['{inputs.frames.exposure:6q}']}"), "'6q' is not a format, as 06d, .3f or >8"),
    (*written("{lines: ['{inputs.frames.exposure:9999d}']}"), "'9999d' is not a format"),
    (*written("{lines: ['{python}']}"), "{python} is known where the job runs alone; write it into argv"),
    (*written("{lines: ['{files.in.sf}']}"), "'in.sf' is not a file of the step (did you mean 'in.sof'?)"),
    (*written("{}"), "files.in.sof: file 'in.sof' has neither lines nor a template, and takes one of them"),
    (*written("{lines: [a], template: b}"), "file 'in.sof' has both lines and a template, and takes one of them"),
    (*written("{template: ../x}"), "template '../x' should be a path below the pipeline's folder, as templates/in.sof"),
    (*written("{template: /etc/x}"), "template '/etc/x' should be a path below the pipeline's folder"),
    (*written("{line: [a]}"), "unknown key stages.bias.steps.combine.files.in.sof.line (did you mean 'lines'?)"),
    (
        "inputs: [image]\n",
        "inputs: [image]\n        files: {a/b: {lines: [x]}}\n",
        "file name 'a/b' should have letters, digits and . _ + - alone",
    ),
    (
        "image: {type: image, to: none}\n      - name: detect\n",
        "image: {type: image, to: none, required: false}\n      - name: detect\n"
        "        files: {l: {lines: ['{inputs.image}']}}\n",
        "'image' may not be there, or not whole, and a file is written beforehand; pass it in argv",
    ),
]


def making(body: str) -> tuple[str, str]:
    """Replace an output of the pipeline."""
    return "image: {type: image, to: none}\n", f"image: {body}\n"


OUTPUTS = [
    (*making("{type: image, to: none, tells: [tile, tile]}"), "tells: tile, tile: a key is named twice"),
    (*making("{type: image, to: none, tells: [exposure]}"), "tells: 'exposure' is a key of the unit (per), which is"),
    (*making("{type: image, to: none, tells: [begins_at]}"), "tells: 'begins_at' cannot be told by a file"),
    (*making("{type: image, to: none, tells: [attempt]}"), "tells: 'attempt' cannot be told by a file"),
    (*making("{type: image, to: none, tells: [a b]}"), "tells: 'a b' cannot be the name of a key"),
    (*making("{type: image, to: none, where: x == 1}"), "where: where tells files of one pattern apart, and this"),
    (
        *making("{type: image, to: none, produces: 'im{tile}.fits'}"),
        "produces: produces 'im{tile}.fits' has {tile}; say that it is told: tells: [tile]",
    ),
    (
        *making("{type: image, to: none, produces: 'im{expsure}.fits'}"),
        "has {expsure} (did you mean 'exposure'?); say that it is told",
    ),
    (
        *making("{type: image, to: none, produces: 'im{exposure}*.fits'}"),
        "has fields and wildcards; a name that tells values has fields alone",
    ),
    (*making("{type: image, to: none, produces: 'im{.fits'}"), "pattern 'im{.fits' cannot be read backwards"),
    (*making("{type: image, to: none, produces: 'im{a.b}'}"), "the field 'a.b' is not a plain name"),
    (*making("{produces: a.cat}"), "type: a file that is kept (to: backbone) needs a type; without one, say to: none"),
    (*making("{to: none}"), "produces: a file without a type keeps its name: say in produces which it is"),
    (*making("{to: none, produces: a/b}"), "produces: a file without a type keeps its name"),
    (*making("{to: none, produces: a, tells: [tile]}"), "tells: tells is about what files say of themselves, which"),
    (*making("{to: none, produces: a, where: x == 1}"), "where: where is about what files say of themselves, which"),
    (
        *making("{type: image, to: none, produces: '*.fits', tells: [tile]}"),
        "argv: {outputs.image}: the step names 'image' itself, as '*.fits'",
    ),
    (
        *making("{to: none, produces: '*.fits', max: 3}"),
        "arguments.image: {inputs.image}: the names of 'image' are known when it is made; pass it in argv",
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("pipeline: ccd", "pipeline: ../ccd", ":1: pipeline: pipeline name '../ccd' should have letters, digits"),
        ("pipeline: ccd", "pipline: ccd", ":1: unknown key pipline (did you mean 'pipeline'?)"),
        ("pipeline: ccd", "name: ccd", ":1: pipeline is missing"),
        ("pipeline: ccd", "pipeline: ccd\ndirectory: /tmp", ":2: unknown key directory"),
        (
            "per: [instrument, detector]",
            "per: [instrument, det ecter]",
            ":6: stages.bias.per: 'det ecter' cannot be the name of a key",
        ),
        (
            "per: [instrument, detector]",
            "per: [detector, detector]",
            "stages.bias.per: detector, detector: a key is named",
        ),
        (
            "per: [instrument, detector]",
            "per: [instrument]\n    name: x",
            "unknown key stages.bias.name; its name is its key",
        ),
        ("min: 3, max: null", "min: 3, max: 2", ":8: stages.bias.inputs.frames.max: min is 3 and max is 2: no number"),
        (
            "min: 3, max: null",
            "max: null, staged_as: bias.fits",
            ":8: stages.bias.inputs.frames.staged_as: staged_as 'bias.fits' gives every file of the input one name",
        ),
        (
            "min: 3, max: null",
            "max: null, staged_as: '../{name}'",
            ":8: stages.bias.inputs.frames.staged_as: template '../{name}' has '../', which is not fit for a file name",
        ),
        (
            "min: 3, max: null",
            "max: null, through: frams",
            ":8: stages.bias.inputs.frames.through: through names 'frams', which is not an input of the stage (did you",
        ),
        (
            "min: 3, max: null",
            "max: null, through: frames",
            ":8: stages.bias.inputs.frames.through: input 'frames' comes through itself; rows of its own files make",
        ),
        ("per: [instrument, detector]", "per: [instrument]\n    max_units: 0", ":7: stages.bias.max_units"),
        (
            "inputs: [frames]",
            "inputs: [frame]",
            ":12: stages.bias.steps.combine.inputs: 'frame' is not an input of the",
        ),
        (
            "inputs: [image]",
            "inputs: [catalog]",
            "'catalog' is not an input of the stage or an output of an earlier step",
        ),
        ("{inputs.bias}", "{inputs.dark}", "argv: {inputs.dark}: 'dark' is not an input of the step"),
        ("inputs: [frame, bias]", "inputs: [frame]", "'bias' is not an input of the step; declare it under the step's"),
        ("{outputs.master}", "{outputs.mastr}", "'mastr' is not an output of the step (did you mean 'master'?)"),
        (
            "{parameters.sigma}",
            "{parameters.sgima}",
            "'sgima' is not a parameter of the pipeline (did you mean 'sigma'?)",
        ),
        ("{unit.exposure}", "{unit.band}", "arguments.exposure: {unit.band}: 'band' is not a key of the stage's"),
        ("{inputs.frame}", "{input.frame}", "argv: {input.frame} is unknown (did you mean 'inputs'?)"),
        ("{pipeline_dir}", "{pipelinedir}", "argv: {pipelinedir} is unknown (did you mean 'pipeline_dir'?)"),
        ("{inputs.frame}", "{inputs}", "argv: {inputs} needs a name, as {inputs.NAME}"),
        (
            '"{inputs.frames}"',
            '"--in={inputs.frames}"',
            "'frames' may be several files; give {inputs.frames} an item of its",
        ),
        (
            "{stage: bias}",
            "{stage: bais}",
            ":19: stages.science.inputs.bias.source.stage: there is no stage 'bais' (did",
        ),
        ("{stage: bias}", "{stage: science}", "stage 'science' cannot take files from itself"),
        (
            "frames: {type: raw_bias,",
            "frames: {type: catalog, source: {stage: science},",
            ":8: stages.bias.inputs.frames.source.stage: stage 'science' comes after 'bias'; take files",
        ),
        (
            "{type: master_bias, source: {stage: bias}}",
            "{type: master_flat, source: {stage: bias}}",
            "stage 'bias' keeps no files of type 'master_flat'",
        ),
        (
            "{stage: bias}",
            "{stage: bias, calibrations: [ccd]}",
            "source has stage and calibrations; sets of calibrations stand alone",
        ),
        (
            "{stage: bias}",
            "{calibrations: [ccd]}",
            "add lookup: {strategy: NAME}; there is after, before, best, bracket, list, nearest, valid",
        ),
        (
            "source: {stage: bias}",
            "lookup: {strategy: valid}",
            "lookup strategy valid needs source: {calibrations: [SET]}",
        ),
        (
            "source: {stage: bias}",
            "lookup: {strategy: list}",
            "lookup strategy list needs files: the names to choose from",
        ),
        (
            "source: {stage: bias}",
            "source: {stage: bias}, lookup: {strategy: list, files: [a.fits]}",
            "lookup strategy list chooses from its files; take out the source",
        ),
        (
            "source: {stage: bias}",
            "source: {calibrations: [ccd]}, lookup: {strategy: nearst}",
            "lookup.strategy is 'nearst' and should be 'after', 'before', 'best', 'bracket', 'list',"
            " 'nearest' or 'valid' (did you mean 'nearest'?)",
        ),
        (
            "source: {stage: bias}",
            "source: {calibrations: [ccd]}, lookup: {strategy: nearest, max_days: -1}",
            "lookup.max_days is -1 and should be greater than 0",
        ),
        (
            "source: {stage: bias}",
            "source: {calibrations: [ccd]}, lookup: {strategy: nearest, max_day: 3}",
            "pipeline.yaml:19: unknown key stages.science.inputs.bias.lookup.max_day (did you mean 'max_days'?)",
        ),
        (
            "source: {stage: bias}",
            "source: {calibrations: [ccd]}, lookup: {strategy: nearest, files: [a.fits]}",
            "lookup.files is a list and should be left out: files are for lookup strategy list",
        ),
        (
            "source: {stage: bias}",
            "source: {calibrations: [ccd]}, lookup: {strategy: optimal}",
            "strategy is 'optimal' and should be 'after', 'before', 'best', 'bracket', 'list',"
            " 'nearest' or 'valid'; install the package that offers it",
        ),
        (
            "{type: raw_science}",
            "{type: raw_science, match: {exposure: [a b]}}",
            "match: 'a b' cannot be the name of a key",
        ),
        *FILES,
        *OUTPUTS,
        ("call: ccd.detect:main", "call: ccd.detect", "call 'ccd.detect' should be package.module:function"),
        ("call: ccd.detect:main", "argv: [a]", "arguments are for a call; write them into argv"),
        (
            "call: ccd.detect:main",
            "argv: [a]\n        call: a:b",
            "step 'detect' has both argv and call, and takes one",
        ),
        ("        call: ccd.detect:main\n", "", "step 'detect' has neither argv nor call, and takes one of them"),
        ("- name: detect", "- name: reduce", ":26: stages.science.steps[1] has the name 'reduce' of another"),
        ("- name: detect\n        call", "- call", ":26: stages.science.steps[1] has no name"),
        (
            "image: {type: image, to: none}",
            "bias: {type: image}",
            "role 'bias' is an input of the stage already; give the output a name of its own",
        ),
        (
            "catalog: {type: catalog}",
            "log: {type: catalog}",
            "role 'log' is one that nightmill has itself; give the out",
        ),
        ("inputs: [image]", "inputs: [image, image]", "steps.detect.inputs: 'image' is named twice; name it once"),
        (
            "catalog: {type: catalog}",
            "image: {type: image}",
            "role 'image' is an output of step 'reduce' already; give",
        ),
        ("{type: catalog}", "{type: catalog, max: 5}", "max is 5: an output of several files needs produces"),
        ("{type: catalog}", "{type: catalog, min: 2}", "min is 2 and max is 1: no number of files is both"),
        ("{type: catalog}", "{type: catalog, produces: '../*'}", "produces '../*' should be a pattern of names"),
        ("to: none}", "to: none, calibration: {set: x}}", "a file that is not kept (to: none) cannot be a calibration"),
        ("valid_days_after: 30", "valid_days_after: -30", "valid_days_before and valid_days_after should be 0 or more"),
        ("inputs: [image]", "inputs: [image]\n        wall_seconds: 0", "wall_seconds is 0 and should be more than 0"),
        (
            "inputs: [image]",
            "inputs: [image]\n        environment: {FRAME: '{inputs.raw}'}",
            "environment.FRAME: {inputs.raw}: 'raw' is not an input of the step",
        ),
        (
            "inputs: [image]",
            "inputs: [image]\n        software: {sex: []}",
            "software 'sex' needs the argv that prints",
        ),
        (
            "inputs: [image]",
            "inputs: [image]\n        wall_seconds: .inf",
            ":30: stages.science.steps[1].wall_seconds is .inf",
        ),
        (
            "  science:\n",
            "  science:\n    units_from: fram\n",
            "units_from names 'fram', which is not an input of the stage (did",
        ),
        ("  science:\n", "  science:\n    when: 0\n", "when is 0 and should be all, any or a number of jobs"),
        (
            "  science:\n",
            "  science:\n    when: al\n",
            "science.when is 'al' and should be 'all' or 'any' or a whole number",
        ),
        ("  science:\n", "  science:\n    resources: {cores: 0}\n", "cores is 0 and should be 1 or more"),
        (
            "  science:\n",
            "  science:\n    resources: {memory_bytes: -1}\n",
            "memory_bytes is -1 and should be 1 or more",
        ),
        ("  science:\n", "  science: 3\n  other:\n", ":15: stages.science is a number and should be a mapping"),
        (
            "sigma: 3.0",
            "sigma: [3.0]",
            ":3: parameters.sigma is a list and should be a text or a whole number or a number or",
        ),
        ("sigma: 3.0", "'': 3.0, sigma: 3.0", "parameter name '' should have letters, digits"),
    ],
)
def test_refusal(tmp_path: Path, old: str, new: str, expected: str) -> None:
    found = problems(tmp_path, (old, new))
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith("pipeline.yaml:") for problem in found)


def test_braces_of_other_languages_are_text(tmp_path: Path) -> None:
    text = PIPELINE.replace('"reduce.py"', '"awk", "{print $1}", "{sum += $2} END {print}", "{}", "{x.y}"')
    assert "{x.y}" in load_pipeline(write(tmp_path, "pipeline.yaml", text)).stage("science").steps[0].argv


def test_steps_may_be_a_mapping_too(tmp_path: Path) -> None:
    text = PIPELINE.replace("      - name: combine\n        argv", "      combine:\n        argv")
    assert load_pipeline(write(tmp_path, "pipeline.yaml", text)).stage("bias").steps[0].name == "combine"


def test_an_empty_pipeline_says_what_it_lacks(tmp_path: Path) -> None:
    path = write(tmp_path, "pipeline.yaml", 'pipeline: x\nversion: "1"\nstages: {}\n')
    assert refusals(load_pipeline, path) == ["pipeline.yaml:3: stages: a pipeline needs at least one stage"]
    path = write(tmp_path, "pipeline.yaml", 'pipeline: x\nversion: "1"\nstages: [a]\n')
    assert refusals(load_pipeline, path) == [
        "pipeline.yaml:3: stages is a list and should be a mapping of names to stages"
    ]
    path = write(
        tmp_path, "pipeline.yaml", 'pipeline: x\nversion: "1"\nstages: {a: {per: [], inputs: {}, steps: []}}\n'
    )
    assert refusals(load_pipeline, path) == [
        "pipeline.yaml:3: stages.a.inputs: no input without a lookup: nothing makes the units of the stage",
        "pipeline.yaml:3: stages.a.steps: a stage needs at least one step",
    ]


def test_the_error_lists_one_problem_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, "pipeline.yaml", PIPELINE.replace('"1.0"', "1.0").replace("min: 3", "min: x"))
    with pytest.raises(ConfigErrors) as caught:
        load_pipeline(path)
    assert str(caught.value).splitlines() == [str(error) for error in caught.value.errors]
    assert len(caught.value.errors) == 2
