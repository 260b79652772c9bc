"""Objectives: one file per loss, each a frozen configuration and the ``nn.Module`` that it builds."""
