"""Loops by hand for scripts/contestants.py: of what acts, of a Boltzmann machine, of series.

Each calls ``step()`` when a step is over, and returns when that says so.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Step = Callable[[], bool]
CARTS, LENGTH, EPOCHS = 8, 32, 20
"""Of PPO: environments, steps of each between two updates, passes over what was collected."""
DISCOUNT, GAE = 0.98, 0.8
WINDOW = 96
"""Hours that are read, and that are forecast."""
UNITS = 500
"""Hidden ones of the Boltzmann machine."""


def carts_by_hand(batch: int, begin: Callable[[], None], step: Step) -> None:
    """PPO in the usual single file (Huang et al. 2022), on gymnasium's own vector of CartPoles."""
    import gymnasium
    import numpy as np
    import torch
    from torch import nn
    from torch.distributions import Categorical

    def perceptron(outputs: int) -> nn.Sequential:
        layers = [nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(64, outputs))

    carts = gymnasium.make_vec("CartPole-v1", num_envs=CARTS, vectorization_mode="sync")
    actor, critic = perceptron(2), perceptron(1)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    shape = (LENGTH, CARTS)
    seen, actions = torch.zeros(*shape, 4), torch.zeros(shape)
    chances, rewards, ends, values = (torch.zeros(shape) for _ in range(4))
    observed = torch.as_tensor(carts.reset(seed=0)[0])
    ended = torch.zeros(CARTS)
    begin()
    while True:
        for time in range(LENGTH):
            seen[time], ends[time] = observed, ended
            with torch.no_grad():
                policy = Categorical(logits=actor(observed))
                action = policy.sample()
                values[time] = critic(observed).flatten()
            actions[time], chances[time] = action, policy.log_prob(action)
            new, reward, over, cut, _ = carts.step(action.numpy())
            rewards[time] = torch.as_tensor(reward)
            observed = torch.as_tensor(new)
            ended = torch.as_tensor(np.logical_or(over, cut)).float()
        advantages, last = torch.zeros(shape), torch.zeros(CARTS)
        with torch.no_grad():
            after, going = critic(observed).flatten(), 1 - ended
        for time in reversed(range(LENGTH)):
            error = rewards[time] + DISCOUNT * after * going - values[time]
            advantages[time] = last = error + DISCOUNT * GAE * going * last
            after, going = values[time], 1 - ends[time]
        returns = (advantages + values).flatten()
        flat = [part.flatten(0, 1) for part in (seen, actions, chances, advantages)]
        for _ in range(EPOCHS):
            for rows in torch.randperm(LENGTH * CARTS).split(batch):
                states, action, chance, advantage = (part[rows] for part in flat)
                policy = Categorical(logits=actor(states))
                ratio = (policy.log_prob(action) - chance).exp()
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                clipped = ratio.clamp(0.8, 1.2) * advantage
                policy_loss = -torch.minimum(ratio * advantage, clipped).mean()
                value_loss = (critic(states).flatten() - returns[rows]).square().mean()
                optimizer.zero_grad()
                (policy_loss + 0.5 * value_loss).backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimizer.step()
                if step():
                    return


def boltzmann_by_hand(images: Tensor, batch: int, begin: Callable[[], None], step: Step) -> None:
    """Contrastive divergence (CD-1) with momentum, gradients written down; ``images`` (n, d)."""
    import torch

    weight = torch.randn(UNITS, images.shape[1]).mul_(0.01)
    hidden_bias, visible_bias = torch.zeros(UNITS), torch.zeros(images.shape[1])
    parameters = (weight, hidden_bias, visible_bias)
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    begin()
    while True:
        for rows in torch.randperm(len(images)).split(batch):
            visible = images[rows]
            hidden = torch.addmm(hidden_bias, visible, weight.T).sigmoid()
            told = torch.addmm(visible_bias, hidden.bernoulli(), weight).sigmoid().bernoulli()
            again = torch.addmm(hidden_bias, told, weight.T).sigmoid()
            changes = (
                hidden.T @ visible - again.T @ told,
                (hidden - again).sum(0),
                (visible - told).sum(0),
            )
            for parameter, velocity, change in zip(parameters, velocities, changes, strict=True):
                velocity.mul_(0.9).add_(change, alpha=0.01 / len(rows))
                parameter.add_(velocity)
            if step():
                return


def hours() -> list[list[float]]:
    """The seven series of ETTh1, an hour a row."""
    with Path(os.environ["DLTRAIN_DATA"], "etth1", "ETTh1.csv").open(newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return [[float(cell) for cell in row[1:]] for row in rows]


def series_by_hand(batch: int, begin: Callable[[], None], step: Step) -> None:
    """One linear layer from a series' past to its future, on windows that are cut as needed."""
    import torch
    from torch import nn

    values = torch.tensor(hours())[:8640]
    values = (values - values.mean(0)) / values.std(0, correction=0)
    windows = values.unfold(0, 2 * WINDOW, 1)
    model = nn.Linear(WINDOW, WINDOW)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    begin()
    while True:
        for rows in torch.randperm(len(windows)).split(batch):
            chosen = windows[rows]
            past, future = chosen[..., :WINDOW], chosen[..., WINDOW:]
            optimizer.zero_grad()
            nn.functional.mse_loss(model(past), future).backward()
            optimizer.step()
            if step():
                return
