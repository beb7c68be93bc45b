"""Quantum-biased attention: a hand-written oracle, biases, permutations."""

import math

import torch

from ase_srdft.models.orbital_tokens.biased_attention import PairProduct, QuantumLayer
from tests.tools.molecules import symmetric

FEATURES, HEADS = 8, 2


def random_layer():
    torch.manual_seed(0)
    layer = QuantumLayer(FEATURES, HEADS, 12, nbiases=3).double()
    torch.nn.init.normal_(layer.attention.bias_weights)
    return layer


def inputs(batch=2, nao=5):
    tokens = torch.randn(batch, nao, FEATURES, dtype=torch.float64)
    return tokens, symmetric(batch, 3, nao, nao)


@torch.no_grad()
def test_attention_is_the_softmax_of_products_and_weighted_biases():
    layer = random_layer()
    attention = layer.attention
    tokens, biases = inputs(batch=1)
    weight, shift = attention.projections.weight, attention.projections.bias
    query, key, value = (tokens[0] @ weight.T + shift).split(FEATURES, -1)
    gathered = []
    for head in range(HEADS):
        columns = slice(head * FEATURES // HEADS, (head + 1) * FEATURES // HEADS)
        logits = query[:, columns] @ key[:, columns].T / math.sqrt(FEATURES // HEADS)
        for bias in range(3):
            logits = logits + attention.bias_weights[head, bias] * biases[0, bias]
        gathered.append(torch.softmax(logits, -1) @ value[:, columns])
    expected = attention.out(torch.cat(gathered, -1))
    torch.testing.assert_close(attention(tokens, biases)[0], expected, rtol=0, atol=1e-12)
    without = attention(tokens, torch.zeros_like(biases))[0]
    assert float((without - expected).abs().max()) > 1e-2


@torch.no_grad()
def test_a_layer_carries_permutations_through():
    layer, (tokens, biases) = random_layer(), inputs()
    order = torch.tensor([3, 0, 4, 1, 2])
    here = layer(tokens, biases)
    there = layer(tokens[:, order], biases[:, :, order[:, None], order])
    assert float((here - here[:, order]).abs().max()) > 1e-2
    torch.testing.assert_close(there, here[:, order], rtol=0, atol=1e-12)


@torch.no_grad()
def test_pair_products_are_double_precision_and_may_start_at_zero():
    tokens, _ = inputs()
    head = PairProduct(FEATURES)
    product = head(tokens.float())
    assert product.dtype == torch.float64
    normed = head.norm(tokens.float())
    expected = head.query(normed) @ head.key(normed).mT / math.sqrt(FEATURES)
    torch.testing.assert_close(product, expected.double(), rtol=0, atol=1e-5)
    assert float(product.abs().max()) > 0.1
    assert not PairProduct(FEATURES, starts_at_zero=True).double()(tokens).any()


def test_a_head_that_starts_at_zero_can_learn():
    tokens, _ = inputs()
    head = PairProduct(FEATURES, starts_at_zero=True).double()
    head(tokens).square().sum().backward()
    assert not head.key.weight.grad.any()  # at the minimum of a square
    (head(tokens) * tokens[..., :1]).sum().backward()
    assert float(head.key.weight.grad.abs().max()) > 1e-2
