"""Whether a dictionary was trained on the model that it is scored on, as far as it says."""

from pathlib import PurePath

from saebench.models.language_model import LanguageModel
from saebench.site import Site, same_place


def official(name: str) -> str:
    """One spelling of a model's name: `gpt2-small` and `gpt2`, `gemma-2-2b` and `google/gemma-2-2b`.

    TransformerLens' list of names decides; a name that it lacks loses owner and capitals.
    """
    from transformer_lens.loading_from_pretrained import get_official_model_name

    for spelling in (name, name.rsplit("/", 1)[-1]):
        try:
            name = get_official_model_name(spelling)
            break
        except ValueError:
            continue
    return PurePath(name).name.lower()


def strangeness(trained_on: str | None, prepend_bos: bool | None, model: LanguageModel) -> list[str]:
    """What a dictionary says of its training that is otherwise here; each a sentence that names both."""
    found = []
    if trained_on and official(trained_on) != official(model.name):
        found.append(
            f"trained on {trained_on}, scored on {model.name}: activations of another model (their width fits)"
        )
    if prepend_bos is not None and prepend_bos != model.prepends_bos:
        with_bos = {True: "with", False: "without"}
        found.append(
            f"trained on texts {with_bos[prepend_bos]} a BOS token in front, and prompts of {model.name} come"
            f" {with_bos[model.prepends_bos]} one"
        )
    return found


def elsewhere(hook: str | None, site: Site) -> list[str]:
    """Whether a dictionary is scored at another hook point than it says it was trained at."""
    if hook is None or same_place(hook, site.place):
        return []
    return [f"trained on {hook}, scored at {site.place}: activations of another place (their width fits)"]
