"""Measurements over many opened episodes: tables that notebooks print and plot."""
