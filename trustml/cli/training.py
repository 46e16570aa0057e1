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
    from trustml.benchmarks.setting import clean_logits, keep_weights, load_data
    from trustml.recipes import read_recipe
    from trustml.reports.training_figure import training_figure
    from trustml.store import trained

    for path in plugins:
        registry.load_file(path)
    recipe, where = read_recipe(model), device_of(device)
    dataset = load_data(data, data_dir)
    result = trained(recipe, dataset, seed, where, fresh=fresh)
    logits = clean_logits(result.module, dataset.test, where).cpu()
    score = metrics.accuracy(logits, dataset.test.y)
    name = f"{recipe.name}-{dataset.name}-{seed}".replace("/", ".")
    weights, picture = out / f"{name}.safetensors", out / f"{name}.png"
    keep_weights(result.module, weights)
    picture.write_bytes(
        training_figure(result.curve, logits, dataset.test.y, dataset.class_names, name)
    )
    how = "taken from the cache, trained" if result.from_cache else "trained"
    click.echo(f"{recipe.text} on {dataset.name}: {how} in {result.seconds:.1f} s")
    click.echo(
        f"test accuracy {100 * score.value:.2f} % (95 % interval {100 * score.low:.2f} to "
        f"{100 * score.high:.2f}) on {len(dataset.test)} samples"
    )
    for note in result.notes:
        click.echo(f"note: {note}")
    click.echo(f"figure: {picture}")
    click.echo(f"weights: {weights} (use them with {recipe.model.plugin.name}:weights={weights})")
