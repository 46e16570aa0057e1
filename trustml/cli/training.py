"""`trustml train`: fit a model, say how well it reads, draw its training figure."""

from pathlib import Path

import click


def print_training(
    model: str,
    out: Path,
    *,
    data: str,
    seed: int,
    device: str,
    data_dir: str | None,
    plugins: tuple[str, ...],
    fresh: bool,
) -> None:
    """Train, then print the test accuracy and where figure and weights lie.

    Raises:
        TrustError: names, options, data or a training that fail.
    """
    from trustml import metrics, registry
    from trustml.benchmarks.place import device_of
    from trustml.benchmarks.plan import check_seed
    from trustml.benchmarks.setting import blaming, clean_logits, keep_weights, load_data
    from trustml.files import write_whole
    from trustml.options import spec_text
    from trustml.recipes import read_recipe
    from trustml.reports.training_figure import training_figure
    from trustml.store import trained

    check_seed(seed)
    for path in plugins:
        registry.load_file(path)
    recipe, where = read_recipe(model), device_of(device)
    dataset = load_data(data, data_dir)
    with blaming(f"model {recipe.name}"):
        result = trained(recipe, dataset, seed, where, fresh=fresh)
        logits = clean_logits(result.module, dataset.test, where).cpu()
    score = metrics.accuracy(logits, dataset.test.y)
    name = f"{recipe.name}-{dataset.name}-{seed}".replace("/", ".")
    weights, picture = out / f"{name}.safetensors", out / f"{name}.png"
    keep_weights(result.module, weights)
    drawn = training_figure(result.curve, logits, dataset.test.y, dataset.class_names, name)
    write_whole(picture, drawn)
    how = "taken from the cache, trained" if result.from_cache else "trained"
    click.echo(f"{recipe.text} on {dataset.name}: {how} in {result.seconds:.1f} s")
    click.echo(
        f"test accuracy {100 * score.value:.2f} % (95 % interval {100 * score.low:.2f} to "
        f"{100 * score.high:.2f}) on {len(dataset.test)} samples"
    )
    for note in result.notes:
        click.echo(f"note: {note}")
    click.echo(f"figure: {picture}")
    spec = spec_text(recipe.model.plugin.name, {"weights": str(weights)})
    click.echo(f"weights: {weights} (use them with {spec})")
