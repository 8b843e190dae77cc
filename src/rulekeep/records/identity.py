"""The id of a run: a hash of what was asked for and of the declared versions.

    id = hash(kind, spec without default values, {protocol, task, mixers: version})

A version is a class variable of a task or a mixer; each kind of spec has one too, its protocol. It
goes up when figures change, which tests/goldens detect. A plug-in that declares none counts by the
content of its own files. Source text, commit, torch and processor are provenance: the record keeps
them, and they are no part of the id.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from rulekeep.specs import AnySpec

# By name, the protocol first: a declared number, or a digest of a plug-in's own files.
Versions: TypeAlias = Mapping[str, int | str]
PROTOCOL = "protocol"
_DIGITS = 16
_Spec = TypeVar("_Spec", bound=AnySpec)


@dataclass(frozen=True)
class Identified(Generic[_Spec]):
    """A spec that can be run, and what makes its id: what was asked for, and declared versions.

    `spec` has every option filled in. `asked` is the spec as JSON has it, without default values.
    `source` is a digest of the code. Each kind of spec adds the parts that its run needs.
    """

    spec: _Spec
    asked: dict[str, Any]
    versions: Versions
    source: str

    @property
    def id(self) -> str:
        """The run's id."""
        return identify(self.spec.kind, self.asked, self.versions)


def differing(recorded: Versions, here: Versions) -> str:
    """Each version that is another here, as `delta 1 (here 2)`; nothing if none is."""
    return ", ".join(
        f"{name} {recorded.get(name, 'none')} (here {version})"
        for name, version in here.items()
        if recorded.get(name) != version
    )


def identify(kind: str, asked: Mapping[str, Any], versions: Versions) -> str:
    """The id of a run; `asked` is its spec as JSON has it, without default values."""
    whole = {"kind": kind, "spec": dict(asked), "versions": dict(versions)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:_DIGITS]
