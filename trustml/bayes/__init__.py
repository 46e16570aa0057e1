"""Bayesian inference, from conjugate pairs upwards."""
