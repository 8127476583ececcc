"""Finds where cameras, walls and lenses are, and how their colours answer. Imports ledvolume, never the other way round.

    patterns (ledvolume/patterns.py, a cue) ─▶ wall ─▶ photographs ─▶ capture: Shot = picture, pattern, tracker's sample
                                                                         │ detect
                                                                         ▼
                    show with nominal wall and rig  ─▶  solve  ◀─  View = LED pixel ↔ picture point, with a sigma
                                                          │
                                                          ▼
                                 Solved: wall, rig, lens, covariance ─▶ report · show file that `serve` loads · exchange

A calibration lives in one folder: shots.json, the pictures, views.json, solved.json, calibrated show, report.html.
"""
