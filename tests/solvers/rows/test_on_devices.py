"""Passes on devices: as on the host, the same to the last bit for one device and four, and nothing gathered."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOUR = Path(__file__).with_name("four_devices.py")


@pytest.fixture(scope="module")
def report():
    """What a process with four devices found."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, FOUR], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 4
    return found


PASSES = ["products_of_matrices, float64", "products_of_matrices, float32", "other_passes, float64"]


@pytest.mark.parametrize("kind", PASSES)
def test_four_devices_find_what_one_finds_to_the_last_bit(report, kind):
    differences = report[f"{kind}: four and one"]
    assert len(differences) == 4
    assert set(differences.values()) == {0.0}


@pytest.mark.parametrize("kind", PASSES)
def test_four_devices_find_what_the_host_finds(report, kind):
    for name, difference in report[f"{kind}: four and host"].items():
        single = kind.endswith("float32") and name in {"Gram", "products"}  # sums of entries stay in float64
        assert difference < (1e-6 if single else 1e-10), name


def test_every_device_holds_a_quarter_of_the_matrix(report):
    assert report["shares"] == [0.25] * 4


def test_devices_exchange_only_sums(report):
    assert report["collectives"] == {"sums": ["all-reduce"], "each": []}


def test_several_devices_are_used_unless_the_session_chose_one(report):
    assert (report["chosen"], report["chosen for one"]) == ("OnDevices", "InMemory")


@pytest.mark.parametrize("graphs", ["graphs", "graphs in batches"])
def test_graphs_on_four_devices_are_those_of_the_host(report, graphs):
    assert {"obsp/med_magma_precision", "varp/med_magma_precision"} <= set(report[graphs])
    for name, difference in report[graphs].items():
        assert difference < 1e-8, name


def test_scales_of_batches_on_four_devices(report):
    assert "varm/med_magma_log_scale" in report["graphs in batches"]
    assert min(report["spread"]) > 0.1
