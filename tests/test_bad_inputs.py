"""What a hostile or a clumsy user asks for: exit 2, one line with the value and the fix.

No traceback and nothing written, for every command. A case is a command line, the value as the
line must show it, and what of the fix it must say.
"""

import shlex
import subprocess
import sys
from pathlib import Path
from warnings import catch_warnings, simplefilter

import pytest
import tiny
from bad_files import bring

from rulekeep.executors import LocalExecutor

# A number too large for anything, a text too long to be shown whole.
HUGE, LONG = str(10**30), "x" * 300

BAD = [
    # No command, or none of the known ones.
    ("swep", "swep", "sweep"),
    ("lst", "lst", "did you mean list? choose from article"),
    ("list detla", "detla", "did you mean delta? choose from article"),
    ("--colour", "--colour", "choose from article"),
    # run: values of a spec.
    ("run --width 0", "0", "greater than or equal to 1"),
    ("run --width=-1", "-1", "greater than or equal to 1"),
    (f"run --width {HUGE}", HUGE, "less than or equal to 16384"),
    ("run --width 64.5", "64.5", "valid integer"),
    ("run --width ''", "''", "valid integer"),
    ("run --width ٦٤x", r"\u0664x", "valid integer"),
    ("run --layers 0", "0", "greater than or equal to 1"),
    ("run --layers 1e400", "1e400", "valid integer"),
    (f"run --hidden {LONG}", "x" * 50, "valid integer"),
    ("run --added-positions rotary", "rotary", "'none', 'learned' or 'earliness'"),
    ("run --context 0", "0", "greater than or equal to 1"),
    ("run --context 10", "10", "must be 49 or more"),
    ("run --context 50 --task apply", "50", "must be"),
    ("run --length-growth 1.5", "1.5", "less than or equal to 1"),
    ("run --mixed-lengths=maybe", "maybe", "true or false"),
    ("run --test-contexts 64,", "64,", "whole number"),
    ("run --test-contexts [64]", "[64]", "several between commas"),
    ("run --test-contexts 64,64", "64", "name each once"),
    ("run --test-contexts 3", "3", "must be 49 or more"),
    ("run --test-contexts=-64", "-64", "must be from 1"),
    ("run --seed=-1", "-1", "greater than or equal to 0"),
    (f"run --seed {2**63}", str(2**63), "less than"),
    ("run --steps 0", "0", "greater than or equal to 1"),
    ("run --steps 10 --warmup-steps 10", "10", "must be below steps 10; give warmup_steps as well"),
    ("sweep standard --mixers delta[heds=2] --dry-run", "heds", "did you mean heads?"),
    ("run --learning-rate nan", "nan", "finite number"),
    ("run --learning-rate 1e400", "1e400", "finite number"),
    ("run --learning-rate=-0.001", "-0.001", "greater than 0"),
    ("run --learning-rate 0", "0", "greater than 0"),
    ("run --final-share 2", "2", "less than or equal to 1"),
    ("run --max-gradient-norm inf", "inf", "finite number"),
    ("run --precision float16", "float16", "'float32', 'bfloat16'"),
    ("run --device gpu", "gpu", "must be cpu, cuda or cuda:N"),
    ("run --device cuda:x", "cuda:x", "must be cpu, cuda or cuda:N"),
    ("run --device cuda:", "cuda:", "must be cpu, cuda or cuda:N"),
    ("run --device cuda:7", "cuda:7", "cpu"),
    ("run --device mps", "mps", "must be cpu, cuda or cuda:N"),
    ("run --threads 0", "0", "greater than or equal to 1"),
    ("run --widht 64", "--widht", "--width"),
    ("run --width", "--width", "requires an argument"),
    ("run --width 64 --width 32", "--width", "multiple times"),
    # run: tasks and their options.
    ("run --task recit", "recit", "did you mean recite?"),
    ("run --task ''", "''", "choose from"),
    ("run --task article", "article", "rulekeep article"),
    ("run --task $'a\\nb'", "'a\\nb'", "choose from"),
    ("run --task-options.ruels 3", "ruels", "did you mean 'rules'?"),
    ("run --task-options.rules 33", "33", "must be from 1 to 32"),
    ("run --task-options.rules x", "x", "valid integer"),
    ("run --task-options.rules 8 --task-options.rule-words 4", "8", "must be from 1 to 4"),
    ("run --task-options.decoy-rate 1.5", "1.5", "must be from 0 to 1"),
    ("run --task-options.decoy-rate nan", "decoy_rate nan", "finite number"),
    ("run --mixer gru --mixer-options.half-life-tokens 1e400", "half_life_tokens inf", "finite"),
    ("run --mixer default_of.py:Bare --mixer-options.rate nan", "rate nan", "finite number"),
    ("sweep quick --dry-run --mixers default_of.py:Bare[rate=-inf]", "rate -inf", "finite number"),
    ("run nan_option.toml", "rate nan", "finite number"),
    ("show recite --decoy-rate inf", "decoy_rate inf", "finite number"),
    ("run --task-options.decoy-rate=-0.1", "-0.1", "must be from 0 to 1"),
    ("run --task-options 3", "3", "--task-options.NAME VALUE"),
    ("run --task-options.placement late", "late", "'early' or 'marked'"),
    ("run --task-options.rules 1 --task-options.rule-words 2", "combinations", "100 or more"),
    ("run --task task_raises.py:T", "task_raises.py:T", "no luck"),
    ("run --task task_options.py:T", "task_options.py:T", "options_type"),
    ("run --task task_lacks.py:T", "combinations and no shortest_context", "outside_task.py"),
    ("run --task task_alone.py:T", "task_alone.py:T", "must take its options: (self, options)"),
    ("run --task module.py:M", "module.py:M", "a mixer goes to --mixer or rulekeep check"),
    # run: mixers and their options.
    ("run --mixer delt", "delt", "did you mean delta?"),
    ("run --mixer recite", "recite", "is a task, which goes to --task or rulekeep check-task"),
    ("check recite", "recite", "is a task, which goes to --task or rulekeep check-task"),
    ("sweep quick --mixers delta[hiden=24]", "'hiden'", "did you mean hidden? choose from heads"),
    ("run --mixer $'a\\nb\\x1b[31m'", r"'a\nb\x1b[31m'", "choose from"),
    ("run --mixer '</script>'", "</script>", "choose from"),
    (f"run --mixer {LONG}", "x" * 50, "choose from"),
    ("run --mixer delta+", "''", "choose from"),
    ("run --mixer delta+slidingwindow", "slidingwindow", "did you mean sliding_window?"),
    ("run --mixer delta+slots+gru", "delta+slots+gru", "layers"),
    ("run --mixer-options.haeds 4", "haeds", "did you mean 'heads'?"),
    ("run --mixer-options.heads 5", "5", "width 64"),
    ("run --mixer-options.heads 0", "0", "must divide"),
    ("run --mixer-options.heads many", "many", "valid integer"),
    ("run --mixer-options.slots 8", "slots", "choose from"),
    ("run --mixer delta+slots --mixer-options.gru.heads 8", "gru.heads", "delta.heads"),
    ("run --mixer no.py:M", "no.py:M", "there is no file no.py in /"),
    ("run --mixer c++/m.py:M", "c++/m.py:M", "a file's path may hold no +"),
    # It was found, if another than the one beside it: no path would help.
    ("run --mixer wants.py:M", "cannot import name 'N' from 'tabnanny'", "(wants.py, line 1)\n"),
    ("run --mixer pack_child.py:M", "pack stands beside it", "set PYTHONPATH=."),
    ("run --predictor plain.py:M --test-contexts 64,64", "64", "name each once"),
    ("run --predictor plain.py:M --test-contexts 0", "0", "must be from 1"),
    ("run --mixer empty:M", "empty:M", "named as file.py:Class"),
    ("run --mixer nowhere:M", "nowhere:M", "there is no module nowhere"),
    ("run --mixer ..up:M", "..up:M", "file.py:Class or module:Class"),
    ("run --mixer :M", ":M", "must be file.py:Class or module:Class"),
    ("run --mixer plain.py:", "plain.py:", "must be file.py:Class or module:Class"),
    ("run --mixer syntax.py:M", "syntax.py:M", "SyntaxError: invalid syntax (syntax.py, line 1)"),
    ("run --mixer delta[heads=8]", "delta[heads=8]", "write 'delta' and --mixer-options.heads '8'"),
    ("run --mixer needs.py:M", "needs.py:M", "takes heads by its place; put a * before it"),
    ("run --mixer takes.py:M --mixer-options.heads 2", "heads", "put a * before it"),
    ("run --mixer any.py:M --mixer-options.known x", "known", "valid integer"),
    ("run --mixer any.py:M --mixer-options.heads 2", "heads", "**more names no option; name it"),
    ("check takes.py:M --mixer-options.heads 2", "'M'", "put a * before it"),
    ("check takes.py:M", "'M'", "takes heads by its place; put a * before it"),
    ("list takes.py:M", "takes.py:M", "takes heads by its place; put a * before it"),
    ("run --mixer empty.py:M", "empty.py has no M", "has no torch.nn.Module"),
    ("run --mixer raises.py:M", "raises.py:M", "ValueError: no luck (raises.py, line 1)"),
    ("run --mixer exits.py:M", "exits.py:M", "SystemExit: 3"),
    ("run --mixer stops.py:M", "stops.py:M", "KeyError"),
    ("run --mixer latin.py:M", "latin.py:M", "SyntaxError"),
    ("run --mixer binary.py:M", "binary.py:M", "null bytes"),
    ("run --mixer plain.py:M", "plain.py:M", "is not a subclass of torch.nn"),
    ("run --mixer plain.py:thing", "plain.py:thing", "is not a subclass of torch.nn"),
    ("run --mixer a_file:M", "a_file:M", "named as file.py:Class"),
    ("run --mixer ./a_file:M", "./a_file", "is not a Python file"),
    ("run --mixer module.py:M", "module.py:M", "init_state"),
    ("run --mixer positional.py:M", "positional.py:M", "must take the width: (self, width)"),
    ("run --mixer list_of.py:M", "gates: list[float]", "must be a bool, a number, a text or None"),
    ("run --mixer default_of.py:M", "sizes=(1, 2)", "must be a bool, a finite number, a text or"),
    ("run --mixer default_of.py:Endless", "limit=inf", "must be a bool, a finite number"),
    ("run --mixer child.py:M", "plain_parent", "stands beside it: set PYTHONPATH=."),
    (
        "run --mixer relative.py:M",
        "relative.py:M",
        "write from NAME import …, and set PYTHONPATH=.",
    ),
    ("run --mixer task_raises.py:T", "task_raises.py:T", "goes to --task or rulekeep check-task"),
    ("run --mixer module.py", "module.py", "name its class, as in module.py:M"),
    ("run --mixer plain.py", "plain.py", "a subclass of torch.nn.Module: it has none"),
    ("run module.py:M", "module.py:M", "a class of yours goes to --mixer module.py:M"),
    ("run --rules 4", "--rules", "own: --task-options.NAME, --mixer-options.NAME"),
    ("run --mixer constructor.py:M", "constructor.py:M", "OSError: two lines"),
    ("run --mixer picky.py:M", "need", "must be given"),
    ("run --mixer picky.py:M --mixer-options.haeds 4", "haeds", "did you mean 'heads'?"),
    ("run --mixer annotated.py:M", "annotated.py:M", "Nowhere"),
    ("run --mixer odd.py:M", "model_config", "give it another"),
    (
        "run --predictor module.py:M",
        "module.py:M",
        "is not a subclass of rulekeep",
    ),
    ("run --predictor uniform", "uniform", "file.py:Class"),
    ("run --predictor module.py:M --mixer delta", "mixer", "predictor"),
    # run: the rest.
    ("run --out a_file", "a_file", "name another folder"),
    ("run --out a_file/under", "a_file/under", "name another folder"),
    ("run --out ''", "''", "name of a folder"),
    ("run --out $'a\\nb'", r"'a\nb'", "name of a folder"),
    ("run --out /proc/runs", "/proc/runs", "name another folder"),
    (f"run --out {LONG}", "x" * 50, "give a shorter one"),
    (f"run --mixer {LONG}.py:M", "x" * 50, "give a shorter one"),
    ("run --time-limit 0", "0", "seconds above 0"),
    ("run --time-limit nan", "nan", "seconds above 0"),
    ("run --time-limit 1e400", "1e400", "seconds above 0"),
    ("run --tracker mlflow", "mlflow", "choose from none, tensorboard"),
    ("run --tracker trackio", "trackio", "pip install trackio"),
    # run: spec files.
    ("run no.toml", "no.toml", "name a TOML file"),
    ("run empty", "empty", "name a TOML file"),
    ("run $'\\0.toml'", r"\x00.toml", "name a TOML file"),
    ("run unknown_key.toml", "widht", "did you mean 'width'?"),
    ("run unknown_table.toml", "mixer_option", "did you mean 'mixer_options'?"),
    ("run text_for_number.toml", "'64'", "valid integer"),
    ("run fraction.toml", "2.5", "valid integer"),
    ("run range.toml", "-0.003", "greater than 0"),
    ("run nan.toml", "nan", "finite"),
    ("run infinite.toml", "inf", "finite number"),
    ("run huge.toml", HUGE, "less than"),
    ("run digits.toml", "digits.toml", "digits"),
    ("run date.toml", "2020-01-01", "integer"),
    ("run list.toml", "['delta']", "valid string"),
    ("run nested.toml", "heads.many", "there is no such option"),
    ("run scalar.toml", "task_options 3", "an object"),
    ("run wrapped.toml", "'run'", "choose from"),
    ("run flag.toml", "'yes'", "valid boolean"),
    ("run option.toml", "'8'", "valid integer"),
    ("run twice.toml", "twice.toml", "is not TOML"),
    ("run json.toml", "json.toml", "is not TOML"),
    ("run deep.toml", "deep.toml", "nested too deeply"),
    ("run twice_over.toml", "delta.heads", "is given twice"),
    ("run empty_option.toml", "heads", "{}"),
    ("run deep_option.toml", "deep_option.toml", "nested too deeply"),
    ("run deep_key.toml", "recursion", "not a value that a spec can hold"),
    ("run \udcff.toml", r"\udcff", "name a TOML file"),
    ("run --mixer \udcff", r"\udcff", "write UTF-8"),
    ("run /dev/zero", "/dev/zero", "larger than 1 MiB"),
    ("run nul.toml", "nul.toml", "is not TOML"),
    ("run escape.toml", r"'a\nb\x1b[31m'", "choose from"),
    ("run latin.toml", "latin.toml", "is not UTF-8"),
    ("run large.toml", "large.toml", "larger than 1 MiB"),
    ("run a_file", "a_file", "is not TOML"),
    ("run good.toml --width 0", "0", "greater than or equal to 1"),
    ("run good.toml empty", "empty", "--help"),
    # sweep.
    ("sweep", "WHAT", "requires an argument"),
    ("sweep smok", "smok", "did you mean smoke?"),
    ("sweep ''", "''", "choose from"),
    ("sweep no.py", "no.py", "there is no file"),
    ("sweep empty", "empty", "choose from"),
    ("sweep syntax.py", "syntax.py", "SyntaxError"),
    ("sweep raises.py", "raises.py", "ValueError: no luck"),
    ("sweep exits.py", "exits.py", "SystemExit: 3"),
    ("sweep other.py", "other.py", "did you mean sweeps?"),
    ("sweep number.py", "number.py", "no function sweep"),
    ("sweep none.py", "none.py", "return a list of RunSpec"),
    ("sweep nothing.py", "nothing.py", "return a list of RunSpec"),
    ("sweep text.py", "text.py", "return a list of RunSpec"),
    ("sweep dicts.py", "dicts.py", "return a list of RunSpec"),
    ("sweep breaks.py", "breaks.py", "RuntimeError: two lines"),
    ("sweep leaves.py", "leaves.py", "SystemExit: 3"),
    ("sweep two.py", "two.py", "missing 1 required positional argument: 'more'"),
    ("sweep module.py:M", "is a class", "rulekeep sweep quick --mixers module.py:M"),
    ("sweep coroutine.py", "coroutine.py", "is async"),
    ("sweep endless.py", "endless.py", "more than 100000 specs"),
    ("sweep bad_spec.py", "bad_spec.py", "greater than or equal to 1"),
    ("sweep late.py", "delt", "did you mean delta?"),
    ("sweep copied.py", "learning_rte", "did you mean 'learning_rate'?"),
    ("sweep copied_badly.py", "-3", "greater than or equal to 1"),
    ("sweep at_its_top.py", "RunSpec: setps", "(at_its_top.py, line 2)"),
    ("sweep long.py", "3", "must be 49 or more"),
    ("sweep smoke --mixers delta", "delta", "leave it out"),
    ("sweep standard --mixers delt", "delt", "did you mean delta?"),
    ("sweep standard --mixers ''", "''", "name"),
    ("sweep standard --mixers 'delta[heads]'", "'heads'", "option=value"),
    ("sweep standard --mixers 'delta[heads=8'", "delta[heads=8", "name[option=value"),
    ("sweep standard --mixers 'delta[haeds=8]'", "haeds", "did you mean heads?"),
    ("sweep standard --mixers delta,delta", "delta", "once"),
    ("sweep smoke --workers 0", "0", "must be 1 or more"),
    ("sweep smoke --workers two", "two", "whole number"),
    ("sweep smoke --executor slurm", "slurm", "choose from local, dask"),
    ("sweep smoke --executor dask", "dask", "needs --scheduler ADDRESS"),
    ("sweep smoke --scheduler tcp://x:1", "tcp://x:1", "for --executor dask only"),
    ("sweep smoke --resources GPU=1", "GPU=1", "for --executor dask only"),
    ("sweep smoke --executor dask --scheduler x --workers 2", "2", "leave it out"),
    ("sweep smoke --executor dask --scheduler tcp://x:1 --resources GPU", "GPU", "NAME=AMOUNT"),
    ("sweep smoke --executor dask --scheduler tcp://x:1 --resources GPU=nan", "nan", "above 0"),
    ("sweep smoke --executor dask --scheduler tcp://x:1 --resources GPU=-1", "-1", "above 0"),
    ("sweep smoke --executor dask --scheduler nonsense:://", "nonsense:://", "tcp://HOST:PORT"),
    ("sweep smoke --out a_file", "a_file", "name another folder"),
    ("sweep smoke --time-limit soon", "soon", "must be a number"),
    ("sweep smoke --tracker ''", "''", "choose from none"),
    ("sweep smoke --dry-run --time-limit 0", "0", "seconds above 0"),
    ("sweep smoke --dry-run --tracker mlflow", "mlflow", "choose from none"),
    ("sweep smoke --dry-run --out a_file", "a_file", "a_file: a_file is no folder"),
    ("sweep smoke --dry-run --out a_file/run", "a_file/run", "a_file is no folder"),
    # resume, verify, report, list.
    ("resume nowhere", "nowhere", "name one that a sweep has written"),
    ("resume a_file", "a_file", "name one that a sweep has written"),
    ("resume empty", "empty", "name the --out of a sweep"),
    ("resume ''", "FOLDER ''", "name of a folder"),
    ("resume", "FOLDER", "requires an argument"),
    ("resume no_records --executor x", "x", "choose from local, dask"),
    ("resume no_records --time-limit=-1", "-1", "seconds above 0"),
    ("verify nowhere", "nowhere", "name one that a sweep has written"),
    ("verify a_file", "a_file", "name one that a sweep has written"),
    ("verify $'\\0'", r"\x00", "name one that a sweep has written"),
    (f"verify {LONG}", "x" * 50, "give a shorter one"),
    ("verify", "FOLDER", "requires an argument"),
    ("verify empty", "empty", "name the --out of a sweep"),
    ("report nowhere", "nowhere", "name one that a sweep has written"),
    ("report a_file", "a_file", "name one that a sweep has written"),
    ("report ''", "''", "name one that a sweep has written"),
    ("report empty", "empty", "no run was planned in it"),
    ("speed --mixers delta+lstm+gru", "delta+lstm+gru", "name two at most"),
    ("report an_article", "an_article", "rulekeep article, see its report.md; name one or more"),
    ("verify an_article", "an_article", "name one or more, as in an_article/runs"),
    ("report no_records", "no_records", "rulekeep resume no_records"),
    ("report whole --out a_file", "--out a_file", "name another folder"),
    ("report whole --out a_file/under", "--out a_file/under", "name another folder"),
    ("report whole --out ''", "''", "name of a folder"),
    ("report whole --out /proc/x", "--out /proc/x", "name another folder"),
    ("report whole/made-up", "whole/made-up", "name the one it stands in"),
    ("report shut", "--out shut/report", "name another folder"),
    ("list all", "all", "choose from article, recite"),
    ("list module.py", "module.py", "name its class, as in module.py:M"),
    # test.
    ("test", "RUN", "requires an argument"),
    ("test whole/made-up", "--contexts", "requires an argument"),
    ("test nowhere --contexts 64", "nowhere", "name that of a run, RUNS/ID"),
    ("test $'\\0' --contexts 64", r"\x00", "name that of a run, RUNS/ID"),
    ("test broken/a --contexts 64", "broken/a", "name the folder of a run that is done"),
    ("test whole/made-up --contexts 64,64", "64", "name each once"),
    ("test whole/made-up --contexts ''", "''", "whole number"),
    (f"test whole/made-up --contexts {HUGE}", HUGE, "must be from 1"),
    ("test whole/made-up --contexts 64 --examples x", "x", "whole number"),
    ("test whole/made-up --contexts 64 --examples 0", "0", "must be from 1"),
    ("test whole/made-up --contexts 128", "no weights were kept", "let rulekeep explain"),
    # explain.
    ("explain", "RUN", "requires an argument"),
    ("explain nowhere", "nowhere", "name that of a run, RUNS/ID"),
    ("explain a_file", "a_file", "name that of a run, RUNS/ID"),
    ("explain $'\\0'", r"\x00", "name that of a run, RUNS/ID"),
    ("explain empty", "empty", "name the folder of a run that is done"),
    ("explain no_records", "no_records", "name the folder of a run that is done"),
    ("explain broken/a", "broken/a", "name the folder of a run that is done"),
    ("explain whole/made-up --contexts 64,64", "64", "name each once"),
    ("explain whole/made-up --contexts ''", "''", "whole number"),
    ("explain whole/made-up --examples 3", "3", "must be from 40"),
    (f"explain whole/made-up --seed {HUGE}", HUGE, "must be from 0"),
    # check.
    ("check", "MIXER", "requires an argument"),
    ("check delt", "delt", "mixer 'delt': did you mean delta?"),
    ("check ''", "''", "choose from"),
    ("check delta+slots", "mixer 'delta+slots'", "choose from"),
    ("check no.py:M", "no.py", "there is no file no.py"),
    ("check no.such:M", "no.such:M", "there is no module no"),
    (
        "check torch.nn:Linear",
        "torch.nn:Linear",
        "define init_state, as rulekeep.mixers.base; a layer without a state",
    ),
    ("check exits.py:T", "exits.py:T", "SystemExit: 3"),
    ("check syntax.py:M", "syntax.py:M", "SyntaxError"),
    ("check plain.py:M", "plain.py:M", "is not a subclass of torch.nn"),
    ("check takes.py:Mm", "takes.py:Mm", "did you mean M?"),
    ("check module.py:M", "define forward and init_state", "rulekeep.Stateless"),
    ("check constructor.py:M", "'M'", "OSError: two lines (constructor.py, line 5)"),
    ("check leaves_made.py:M", "'M'", "SystemExit: 3 (leaves_made.py, line 5)"),
    ("check annotated.py:M", "'M'", "'Nowhere' is not defined"),
    ("check picky.py:M", "need", "must be given"),
    ("check delta --width 0", "0", "--width 0: must be from 1 to 4096"),
    (f"check delta --width {HUGE}", HUGE, "must be from 1 to 4096"),
    ("check delta --width 64.5", "64.5", "whole number"),
    ("check delta --width x", "x", "--width 'x': must be a whole number"),
    ("check delta --mixer-options.haeds 4", "haeds", "did you mean 'heads'?"),
    ("check delta --mixer-options.heads 5", "heads 5", "must divide the width 64"),
    ("check delta --mixer-options.heads=-1", "-1", "must divide the width"),
    ("check delta --mixer-options.heads many", "heads 'many'", "valid integer"),
    ("check delta --mixer-options.serial true", "'serial'", "choose from heads"),
    ("check delta --mixer-options.a.b 4", "--mixer-options", "--mixer-options.NAME VALUE"),
    ("check delta --mixer-options 4", "--mixer-options 4", "--mixer-options.NAME VALUE"),
    # certify, data, show, check-task.
    ("certify", "TASK", "requires an argument"),
    ("certify recit", "recit", "did you mean recite?"),
    ("certify recite --context 48", "48", "must be from 49"),
    ("certify recite --context 64,64", "64", "name each once"),
    ("certify recite --context ''", "''", "whole number"),
    ("certify recite --examples 9", "9", "must be from 100"),
    (f"certify recite --examples {HUGE}", HUGE, "must be from 1"),
    ("certify recite --seed=-1", "-1", "must be from 0"),
    ("certify recite --out a_file", "a_file", "name another folder"),
    (f"certify recite --out {LONG}", "x" * 50, "give a shorter one"),
    ("certify recite --rules 33", "33", "must be from 1 to 32"),
    ("certify task_raises.py:T", "task_raises.py:T", "no luck"),
    ("certify task_draws.py:T --context 64", "task_draws.py:T", "ZeroDivisionError"),
    ("certify plain.py:M", "plain.py:M", "is not a subclass of rulekeep.tasks"),
    ("data recite", "--context", "requires an argument"),
    ("data recite --context 1", "1", "must be from 49"),
    (f"data recite --context {HUGE}", HUGE, "must be from 49"),
    ("data recite --context 64 --n 0", "0", "must be from 1"),
    (f"data recite --context 64 --n {HUGE}", HUGE, "must be from 1"),
    ("data recite --context 64 --split validation", "validation", "train, dev, test"),
    ("data recite --context 64 --split ''", "''", "train, dev, test"),
    ("data recite --context 64 --format csv", "csv", "jsonl, parquet, npz"),
    ("data recite --context 64 --out empty", "empty", "is not a file"),
    ("data recite --context 64 --out no/file", "no/file", "no folder no"),
    ("data recite --context 64 --out $'a\\nb'", r"'a\nb'", "name of a file"),
    (f"data recite --context 64 --out {LONG}", "x" * 50, "name another file"),
    ("data recite --context 64 --decoy-rate 1e400", "decoy_rate inf", "finite number"),
    ("data article --context 64 --n 1945", "1945", "from 1 to 1944"),
    ("data task_draws.py:T --context 64", "task_draws.py:T", "ZeroDivisionError"),
    ("show recite --context=-1", "-1", "must be from 49"),
    ("show recite --n 101", "101", "must be from 1 to 100"),
    ("show recite --html empty", "empty", "is not a file"),
    ("show recite --html no/x.html", "no/x.html", "no folder no"),
    ("show recite --colour 3", "--colour", "choose from rules, "),
    ("show recite --ruels 3", "--ruels", "did you mean rules?"),
    ("show task_floats.py:T", "tokens: float64", "must be int64"),
    ("check-task task_int32.py:T", "tokens: int32", "must be int64"),
    ("data task_words.py:T --context 64", "tokens: 10", "the vocabulary has 0 to 82"),
    ("certify task_mask.py:T", "item: int64, must be bool", "rule: [1, 4], must be [1, 5]"),
    ("check-task task_lacks.py:T", "task_lacks.py:T", "has no vocabulary"),
    ("check-task recite --task-options.rules 2", "--NAME VALUE here", "as in --rules 8"),
    ("show article --rules 3", "--rules", "choose from context"),
    ("show '</script>'", "</script>", "choose from"),
    ("show task_options.py:T", "task_options.py:T", "options_type"),
    ("check-task article", "article", "is a table"),
    ("check-task task_exits.py:T", "task_exits.py:T", "SystemExit: 3 (task_exits.py, line 3)"),
    ("check-task exits.py:T", "exits.py:T", "SystemExit: 3"),
    ("check-task recite --examples x", "x", "whole number"),
    ("check-task recite --context 10", "10", "must be from 49"),
    ("check-task", "TASK", "requires an argument"),
    # speed.
    ("speed delta", "delta", "--help"),
    ("speed --mixers delt", "delt", "did you mean delta?"),
    ("speed --mixers ''", "''", "name[option=value,…]"),
    ("speed --mixers delta[heads", "delta[heads", "name[option=value,…]"),
    ("speed --mixers delta[heads=5]", "5", "width 64"),
    ("speed --mixers delta[haeds=4]", "haeds", "did you mean 'heads'?"),
    ("speed --mixers delta[width=32]", "width", "no option of a mixer"),
    ("speed --mixers delta,delta", "delta", "name each once"),
    ("speed --mixers delta+slots+gru", "delta+slots+gru", "layers"),
    ("speed --mixers no.py:M", "no.py", "there is no file"),
    ("speed --mixers exits.py:M", "exits.py:M", "SystemExit: 3"),
    ("speed --mixers module.py:M", "module.py:M", "init_state"),
    ("speed --contexts 64,big", "64,big", "whole number"),
    ("speed --contexts 64,64", "64", "name each once"),
    ("speed --contexts 1", "1", "must be from 2"),
    (f"speed --contexts {HUGE}", HUGE, "must be from 2"),
    ("speed --repeats 0", "0", "must be from 1"),
    (f"speed --repeats {HUGE}", HUGE, "must be from 1"),
    ("speed --repeats 2.5", "2.5", "whole number"),
    ("speed --tokens=-1", "-1", "must be from 2"),
    ("speed --out a_file", "a_file", "name another folder"),
    ("speed --out a_file/under", "a_file/under", "name another folder"),
    ("speed --out ''", "''", "name of a folder"),
    ("speed --mixers delta --out /proc/speed", "/proc/speed", "name another folder"),
    (f"speed --mixers delta --out {LONG}", "x" * 50, "give a shorter one"),
    # article.
    ("article --contexts 15", "15", "context 15: must be 16 or more"),
    ("article --contexts=-64", "-64", "context -64: must be 16 or more"),
    ("article --contexts 64,big", "64,big", "--contexts '64,big': must be a whole number"),
    ("article --contexts 64.5", "64.5", "--contexts '64.5': must be a whole number"),
    ("article --contexts 64,", "64,", "--contexts '64,': must be a whole number"),
    ("article --contexts 64,64", "64", "context 64 given 2 times: name each once"),
    (f"article --contexts {'9' * 12}", "9" * 12, "context 999999999999: must be 131072 or less"),
    (f"article --contexts {HUGE}", HUGE, "must be 131072 or less"),
    ("article --models mamba", "mamba", "mixer 'mamba': choose from"),
    ("article --models attention,x", "x", "mixer 'x': choose from"),
    ("article --models ''", "''", "model '': choose from"),
    ("article --models attention,attention", "model attention", "given 2 times: name each once"),
    ("article --models delta[heads=7]", "7", "must divide the width 64"),
    ("article --models delta[hidden=8]", "hidden", "leave it out"),
    ("article --models delta[heads", "delta[heads", "write name or name[option=value,…]"),
    ("article --seeds 1,1", "1", "seed 1 given 2 times: name each once"),
    ("article --seeds 1,x", "1,x", "--seeds '1,x': must be a whole number"),
    ("article --seeds=-3", "-3", "seed -3: must be from 0"),
    (f"article --seeds {2**64}", str(2**64), "must be from 0 to 2**63 - 1"),
    ("article --steps=-1", "-1", "steps -1: must be from 1 to 1000000"),
    ("article --steps 0", "0", "steps 0: must be from 1 to 1000000"),
    ("article --steps many", "many", "--steps 'many': must be a whole number"),
    (f"article --steps {HUGE}", HUGE, "must be from 1 to 1000000"),
    ("article --workers=-1", "-1", "must be 1 or more"),
    ("article --workers 0", "0", "--workers 0: must be 1 or more"),
    ("article --workers two", "two", "--workers 'two': must be a whole number"),
    ("article --out", "--out", "--out requires an argument"),
    ("article --out a_file", "a_file", "a_file/runs: cannot be written"),
    ("article --out a_file/run", "a_file/run", "a_file/run/runs: cannot be written"),
    ("article --out ''", "''", "--out '': must be the name of a folder"),
    ("article --out $'\\udcff'", r"\udcff", "must be the name of a folder"),
    ("article --out $'a\\nb'", r"'a\nb'", r"--out 'a\nb': must be the name of a folder"),
    ("article --out /proc/run", "/proc/run", "cannot be written"),
    ("article --colour", "--colour", "--help"),
    ("article attention", "'attention'", "--help"),
]


def test_every_case_stands_once_and_names_a_value_and_a_fix() -> None:
    lines = [line for line, *_ in BAD]
    assert sorted(set(lines)) == sorted(lines)
    assert all(value and fix for _, value, fix in BAD)


def listing(folder: Path) -> dict[str, int]:
    """Every file and folder, with the size of a file."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size if path.is_file() else -1
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


Brought = tuple[Path, dict[str, int]]


def brought(folder: Path) -> Brought:
    """The folder with all files in it, and their listing."""
    bring(folder)
    return folder, listing(folder)


@pytest.fixture(scope="module")
def untouched() -> list[Brought]:
    """The folder that the last case left as it was, for the next one."""
    return []


def words(line: str) -> list[str]:
    """A command line as a shell has it, `$'…'` included."""
    parts = shlex.split(line.replace("$'", "'"))
    return [part.encode("latin-1", "backslashreplace").decode("unicode_escape") for part in parts]


@pytest.mark.parametrize(("line", "value", "fix"), BAD, ids=[line[:60] for line, *_ in BAD])
def test_bad_input_is_one_line_with_the_value_and_the_fix_and_writes_nothing(
    untouched: list[Brought],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    value: str,
    fix: str,
) -> None:
    folder, before = untouched.pop() if untouched else brought(tmp_path_factory.mktemp("brought"))
    monkeypatch.setattr(LocalExecutor, "run", lambda *_: pytest.fail("a run was started"))
    done = tiny.rulekeep(*words(line), cwd=folder)
    errors = done.stderr
    assert (done.returncode, done.stdout) == (2, ""), errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("rulekeep: ")
    assert value in errors
    assert fix in errors
    assert len(errors) < 1000
    assert errors.removesuffix("\n").isprintable()
    assert listing(folder) == before
    untouched.append((folder, before))


def test_a_process_of_its_own_says_the_same_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rulekeep", "resume", "\x1b[31m"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert r"\x1b[31m" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_only_doubtful_is_one_line_said_once(tmp_path: Path) -> None:
    options = [f"--task-options.{pair}" for pair in ("rules=1", "rule-words=40")]
    small = [
        "--width=16",
        "--steps=1",
        "--warmup-steps=0",
        "--context=64",
        "--validation-examples=9",
    ]
    with catch_warnings():
        simplefilter("default")
        done = tiny.rulekeep("run", *options, *small, "--test-examples=9", cwd=tmp_path)
    doubt, ended = done.stderr.splitlines()
    assert doubt.startswith("rulekeep: recite with ReciteOptions(rules=1, rule_words=40")
    assert "640 combinations" in doubt
    assert ended.startswith("[1/1] recite attention")
