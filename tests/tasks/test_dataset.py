"""Properties of every data set's record."""

import pytest

from unmask.configs.task import dataset_names
from unmask.tasks.public_datasets import dataset_by_name
from unmask.tasks.template import check_template


@pytest.mark.parametrize("name", dataset_names())
def test_every_name_has_splits_whose_files_cannot_be_mistaken(name: str) -> None:
    dataset = dataset_by_name(name)
    check_template(dataset.template)
    assert "/" in dataset.hub
    files = [source.file for source in dataset.sources.values()]
    assert files
    assert not [(a, b) for a in files for b in files if a != b and f"{a}-".startswith(f"{b}-")]
