"""Recipes as data: model, loading, expressions, checks. Pure."""
