"""From driver names to price-book types."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gpu.names import TYPE_MAX, gpu_type

BOOK = ("L40", "A40", "A100", "H100")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA L40", "L40"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A40", "A40"),
        ("NVIDIA A40-48Q", "A40-48Q"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("NVIDIA A100-PCIE-40GB", "A100"),
        ("A100-SXM4-40GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H100 NVL", "H100"),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "H100-MIG-3G.40GB"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA GH200 144G HBM3e", "GH200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GB10", "GB10"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA GeForce RTX 4090 D", "RTX-4090-D"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX-4090-LAPTOP"),
        ("NVIDIA GeForce RTX 4080 SUPER", "RTX-4080-SUPER"),
        ("NVIDIA GeForce GTX 1080 Ti", "GTX-1080-TI"),
        ("NVIDIA RTX A6000", "RTX-A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-ADA"),
        ("Quadro RTX 6000", "QUADRO-RTX-6000"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000-BLACKWELL-SERVER"),
        ("NVIDIA TITAN RTX", "TITAN-RTX"),
        ("Orin (nvgpu)", "ORIN"),
        ("NVIDIA Graphics Device", "GRAPHICS-DEVICE"),
        ("NVIDIA", "UNKNOWN"),
        ("", "UNKNOWN"),
        ("\x1b[31m", "31M"),
    ],
)
def test_the_seed_price_book(name: str, expected: str) -> None:
    assert gpu_type(name, BOOK) == expected


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("NVIDIA GeForce RTX 4090", ["rtx4090"], "rtx4090"),
        ("NVIDIA GeForce RTX 4090", ["4090"], "4090"),
        ("NVIDIA GeForce RTX 4090", ["RTX 4090"], "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", ["RTX-4090", "4090"], "RTX-4090-LAPTOP"),
        ("NVIDIA GeForce RTX 4090 D", ["RTX-4090"], "RTX-4090-D"),
        ("NVIDIA RTX A6000", ["A6000"], "A6000"),
        ("Quadro RTX 6000", ["RTX-6000"], "QUADRO-RTX-6000"),
        ("NVIDIA A100-SXM4-80GB", ["A100", "A100-80GB", "A100-40GB"], "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", ["A100-80GB", "A100"], "A100"),
        ("NVIDIA A100-SXM4-40GB", ["A100-80GB"], "A100"),
        ("NVIDIA H100 NVL", ["H100", "H100-NVL"], "H100-NVL"),
        ("NVIDIA L40S", ["L40"], "L40S"),
        ("NVIDIA L40", ["L40S"], "L40"),
        ("NVIDIA L40", [], "L40"),
        ("NVIDIA L40", ["", "NVIDIA", "80GB"], "L40"),
    ],
)
def test_the_price_book_decides_the_spelling(name: str, known: list[str], expected: str) -> None:
    assert gpu_type(name, known) == expected
    assert gpu_type(name, known[::-1]) == expected


@given(st.text(max_size=200))
def test_any_name_makes_a_type_that_can_be_written_in_a_price_book(name: str) -> None:
    found = gpu_type(name, BOOK)
    assert 1 <= len(found) <= TYPE_MAX
    assert found.isascii()
    assert set(found) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
    assert gpu_type(found, [found]) == found or found == "UNKNOWN" or len(found) == TYPE_MAX
