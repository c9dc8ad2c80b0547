"""A Keras source as a `Model`: config, arrays and graph brought together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from wexport.errors import LayoutError, SourceError
from wexport.layers.keras import Era
from wexport.model import Layer, LeftOut, Model
from wexport.readers.keras import guess, legacy
from wexport.readers.keras.bind import (
    Binding,
    Found,
    bind_group,
    explain_mismatch,
    finished,
    in_order,
    indexed,
    retold,
    unknown_binding,
    wants,
)  # fmt: skip
from wexport.readers.keras.graph import NOTHING_KNOWN, Draft, draft_layers, lower, made_up
from wexport.readers.keras.numbered import archive_arrays
from wexport.readers.keras.result import model_of
from wexport.readers.keras.source import Source, data_formats, era_of, with_index
from wexport.readers.keras.tree import Entry, Tree, read_tree


def build(source: Source) -> Model:
    """The model of a Keras source.

    Raises:
        SourceError: the config and the arrays cannot be made sense of.
    """
    group = legacy.weights_group(source.root)
    if group is not None:
        legacy.describe(source, group)
        groups, left = legacy.layer_arrays(source, group)
        first = "keras_version" not in group.attrs
        era = era_of(source, first, legacy.names_of(groups.values()))
        return _from_groups(source, era, groups, left)
    era = era_of(source, False, [])
    if source.version is None:
        era = replace(era, major=3, version=())
    return _from_archive(source, era)


# -- .h5 files ---------------------------------------------------------------------------------------------------------


def _from_groups(source: Source, era: Era, groups: legacy.Groups, left: list[LeftOut]) -> Model:
    tree = Tree(source.path.stem, "") if source.config is None else read_tree(source.config, era)
    if not tree.entries:  # weights alone, or a model whose class only its code knows
        return guess.from_groups(source, era, groups, left, tree.name)
    drafts = draft_layers(tree)
    bindings: dict[str, Binding] = {}
    warnings: list[str] = []
    taken = set()
    for entry in tree.entries:
        if entry.name not in groups:
            continue
        taken.add(entry.name)
        _bind_entry(entry, groups[entry.name], drafts, bindings, warnings)
    _by_position(tree, groups, taken, drafts, bindings, warnings)
    for name in [n for n in groups if n not in taken and groups[n]]:
        draft = made_up(name, era)
        bindings[name] = unknown_binding(draft, groups[name], False)
        warnings.append(
            f"{name}: the file holds weights for a layer that the architecture does not list; they are exported whole"
        )
    missing = [n for n, d in drafts.items() if n not in bindings and any(s.copy_of is None for s in d.stored.slots)]
    if missing:
        raise SourceError(
            f"{source.path}: holds no weights for {', '.join(missing[:5])}; "
            "is this the architecture that the weights were saved from?"
        )
    index = indexed(tree, bindings, drafts, era.major > 2, era.tf)
    return _assembled(source, era, tree, drafts, bindings, index, left, warnings)


def _bind_entry(
    entry: Entry, found: list[Found], drafts: Mapping[str, Draft], bindings: dict[str, Binding], warnings: list[str]
) -> None:
    wanted = wants(entry, drafts)
    if not found and not wanted:
        return
    bound = bind_group(found, wanted, entry.name)
    if bound is None and entry.full in drafts and retold(drafts[entry.full], found):
        wanted = wants(entry, drafts)
        bound = bind_group(found, wanted, entry.name)
    if bound is not None:
        bindings.update(bound)
        return
    owners = {w.draft.name for w in wanted}
    known = [n for n in owners if drafts[n].stored.known]
    if known:
        warnings.append(f"{entry.name}: {explain_mismatch(found, wanted)}; its weights are exported whole")
    name = entry.name if entry.name in drafts else next(iter(owners), entry.name)
    draft = drafts.get(name) or Draft(name, entry, NOTHING_KNOWN)
    if found:
        bindings[entry.name] = unknown_binding(
            replace(draft, name=entry.name), found, entry.layer.era.major < 3 or in_order(found)
        )
    for owner in owners - {entry.name}:
        bindings.setdefault(owner, Binding(drafts[owner]))


def _by_position(
    tree: Tree,
    groups: legacy.Groups,
    taken: set[str],
    drafts: Mapping[str, Draft],
    bindings: dict[str, Binding],
    warnings: list[str],
) -> None:
    """Layers renamed since: where no group has a layer's name, weighted layers and groups pair up in order."""
    weighted = [e for e in tree.entries if wants(e, drafts)]
    spare = [n for n in groups if n not in taken and groups[n] and n != "top_level_model_weights"]
    idle = [e for e in weighted if e.name not in taken]
    if spare and len(spare) == len(idle):
        for entry, name in zip(idle, spare, strict=True):
            taken.add(name)
            _bind_entry(entry, groups[name], drafts, bindings, warnings)


# -- archives ----------------------------------------------------------------------------------------------------------


def _from_archive(source: Source, era: Era) -> Model:
    tree = read_tree(source.config, era) if source.config is not None else Tree(source.path.stem, "")
    if not tree.entries:
        return guess.from_paths(source, era, tree)
    bindings, drafts, left, warnings = archive_arrays(source, era, tree)
    index = indexed(tree, bindings, drafts, era.major > 2, era.tf)
    return _assembled(source, era, tree, drafts, bindings, index, left, warnings)


# -- both --------------------------------------------------------------------------------------------------------------


def _assembled(
    source: Source, era: Era, tree: Tree, drafts: dict[str, Draft], bindings: dict[str, Binding],
    index: Mapping[str, int], left: list[LeftOut], warnings: list[str],
) -> Model:  # fmt: skip
    graph = lower(tree, drafts)
    layers = []
    for name, draft in drafts.items():
        binding = bindings.pop(name, None) or Binding(draft)
        if binding.draft is not draft and binding.draft.name == draft.name and not binding.draft.stored.known:
            pass
        else:
            binding.draft = draft
        layers.append(_layer(source, binding, index))
    layers += [_layer(source, b, index) for b in bindings.values()]
    warnings += [*_unknown_warnings(layers, drafts), *_doubtful_formats(source, era, layers)]
    return model_of(source, tree.name, graph, layers, left, warnings)


def _layer(source: Source, binding: Binding, index: Mapping[str, int]) -> Layer:
    binding.pairs = [(slot, with_index(found, index)) for slot, found in binding.pairs]
    try:
        return finished(binding)
    except LayoutError as error:
        raise SourceError(f"{source.path}: {binding.draft.name}: {error}") from error


def _doubtful_formats(source: Source, era: Era, layers: list[Layer]) -> list[str]:
    """Keras 1 does not write down the data format of padding, cropping and upsampling; other layers tell it, if any."""
    names = [
        layer.name for layer in layers if re.fullmatch(r"(ZeroPadding|Cropping|UpSampling)[23]D", layer.class_name)
    ]
    if era.major > 1 or data_formats(source.config) or not names:
        return []
    return [f"{', '.join(names)}: the file does not say which axis is the channels'; the last one is taken for it"]


def _unknown_warnings(layers: list[Layer], drafts: Mapping[str, Draft]) -> list[str]:
    found = []
    for layer in layers:
        if layer.kind != "unknown" or layer.name not in drafts or drafts[layer.name].stored.kind != "unknown":
            continue
        n = len(layer.weights)
        what = f"its {n} weight{'s are' if n != 1 else ' is'} exported whole" if n else "it has no weights"
        found.append(
            f"{layer.name}: {layer.class_name} is not a layer that wexport knows; {what}, "
            "and the model cannot be computed from the bundle"
        )
    return found
