"""Learn from mistakes alone: the perceptron rule (Rosenblatt 1958)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec
from dltrain.contracts.task import Metrics, Optimize
from dltrain.errors import UserError
from dltrain.tasks.classification import Classification


class Perceptron(Classification):
    """The perceptron criterion over scores (batch, classes) against integer targets (batch,).

    Gradient descent on it at a learning rate of 1 is the rule: for each misclassified example,
    add it to the weights of its own class and subtract it from those of the class that was
    guessed. Where two classes share one score ``s = w·x + b``, that is ``w += t x, b += t`` with
    ``t`` = -1 for the first class and +1 for the second. All examples of a batch are classified
    with the same weights; ``data.batch_size=1`` is Rosenblatt's one example at a time.
    """

    probabilistic = False

    def __init__(self, model: nn.Module, spec: DataSpec) -> None:
        super().__init__(model, spec)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Correct every mistake in the batch; its loss is reported as a mean all the same."""
        scores, targets = self.model(batch["input"]), batch["target"]
        if targets.is_floating_point():
            raise UserError(
                "the perceptron rule knows one class an example: no data.augment.mixup or cutmix"
            )
        criterion = perceptron_criterion(scores, targets)
        optimize(criterion)
        hits = scores.detach().argmax(1) == targets
        return {
            "loss": criterion.detach() / len(targets),
            "accuracy": hits.mean(dtype=torch.float32),
        }

    def evaluation_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The criterion."""
        return perceptron_criterion(logits, targets)

    def example_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The criterion of each example."""
        return example_criteria(logits, targets)


def perceptron_criterion(scores: Tensor, targets: Tensor) -> Tensor:
    """The sum over a batch of the guessed class's score minus that of the true class.

    ``scores`` are (batch, classes), ``targets`` (batch,); the result is 0-d. For the two scores
    0 and ``s`` it is the sum of ``-t s`` over the misclassified. A guess is the first of the
    highest scores, so that from zero weights on the rule moves although the criterion is 0.
    """
    return example_criteria(scores, targets).sum()


def example_criteria(scores: Tensor, targets: Tensor) -> Tensor:
    """:func:`perceptron_criterion` of each example by itself, (batch,)."""
    guesses = scores.argmax(1)
    rows = torch.stack((guesses, targets), 1)
    guessed, true = scores.gather(1, rows).unbind(1)
    return guessed - true
