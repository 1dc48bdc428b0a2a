# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11. Ablations: which part earns its place?
#
# [Start here](00_start_here.ipynb) | [10 Your own images](10_your_own_images.ipynb) | **11 Ablations** |
# [12 When does it pay?](12_when_does_it_pay.ipynb)
#
# **What you will learn.** What an ablation is, four ways in which it can deceive, and what this project does against
# each; what cycle comparison, prototype interaction and multi-scale fusion are worth on the toy world, also where a
# module does *not* help; how to run an ablation of your own, here on the page or over night.
#
# **What you need.** [Notebook 7](07_evaluation.ipynb) (mIoU, intervals, paired differences). The modules are those of
# [notebooks 3](03_cycle_comparison.ipynb), [4](04_prototype_interaction.ipynb) and [5](05_multi_scale_fusion.ipynb).
#
# **Time.** About 45 minutes with the two exercises. The cells run in well under a minute; the live lab takes as long as
# you play with it.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

from dpnet_lite.ablation.comparisons import holm, judge, label, runs_of, sign_flip_p
from dpnet_lite.ablation.figures import differences_figure, scores_figure
from dpnet_lite.ablation.report import cost_table, score_table
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.ablation.table import shipped_names, shipped_rows, unpack_scores
from dpnet_lite.plots import BLUE, ORANGE

study, rows = load_study("modules"), shipped_rows("modules")
scores = {label(row): unpack_scores(row["scores"]) for row in rows}  # by variant, condition, fold, seed
print(f"{study.question}\n{len(rows)} rows; shipped studies: {', '.join(shipped_names())}")

# %% [markdown]
# ## 11.1 What an ablation is
#
# Take a part out, train again, score again. What the score loses is what the part was worth, *in that network, on that
# data, with that budget*. The paper surely has such a table, but it is not public; the one below is this project's own,
# on the built-in toy world.
#
# A *study* is a list of *variants* (networks that differ in a setting), each trained on several *folds* and with
# several
# *seeds*. The full network of these studies has CCM (the cycle comparison of notebook 3), PIM in its form "joint" (the
# correlation of notebook 4, but its gate weighs both prototypes and the query feature alike, *our choice*) and MSF in
# its form "ASPP" (dilated convolutions and a global mean, *our choice*). Both forms were the best of their alternatives
# on training seeds that are not among those shown here; the studies on interaction and scales below compare all forms.

# %%
for variant in study.variants:
    print(f"{variant.name:14} {variant.what}")

# %% [markdown]
# ## 11.2 Four ways to be deceived
#
# **One: luck of the draw.** Train the same network twice with two seeds and the scores differ; test it on other
# episodes and they differ again. The remedy is *pairs*: in every fold and seed, all variants see the same training
# episodes, start with the same weights where shapes allow, and are scored on the same test episodes. Luck that both
# share cancels in the difference. The next cell draws it: every line is one pair.

# %%
full, control = (runs_of(scores, name, "1-shot") for name in ("full", "support only"))
pairs = np.array([[100 * control[key].miou, 100 * full[key].miou] for key in full])  # [pairs, 2]
figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
for low, high in pairs:
    axes.plot([0, 1], [low, high], "o-", color=BLUE if high > low else ORANGE, markersize=4, linewidth=1)
axes.set_xticks([0, 1], ["support only", "full"], fontsize=11)
axes.set_ylabel("mIoU of novel classes, %", fontsize=11)
axes.set_xlim(-0.3, 1.3)
plt.show()
spread_of_differences = (pairs[:, 1] - pairs[:, 0]).std(ddof=1)
unpaired = np.sqrt(pairs.var(axis=0, ddof=1).sum())  # variances of unrelated numbers add up
print(f"standard deviation of a difference: {unpaired:.1f} points between unrelated runs, "
      f"{spread_of_differences:.1f} within pairs")  # fmt: skip

# %% [markdown]
# *What to see:* a line in blue rises, one in orange falls. The ends of the lines are scattered, for folds and seeds
# differ. Are the slopes more alike than the ends? The two printed numbers say it: how much a difference would vary if
# its two runs had nothing in common (other fold, other seed), and how much it varies within pairs. Pairing takes away
# the luck that both share; what is left is the luck of each network's own training, and folds in which a module is
# worth more than in others.
#
# **Two: unequal chances.** A variant with more parameters or more steps can win without its idea. All variants have the
# same number of steps; their parameters are printed; and "support only" is the full network with P in the place of P_q:
# all its layers, not its idea. It is the fair control for the pseudo-prototype. Not every module has such a control:
# the last lines name the questions whose two networks differ in size.

# %%
print(cost_table(study, rows) + "\n")
parameters = {row["variant"]: row["parameters"] for row in rows}
for question in study.comparisons:
    ratio = parameters[question.variant] / max(1, parameters[question.control])
    if abs(ratio - 1) > 0.01:
        print(f"{question.name}: {question.variant!r} has {ratio:.2f} times the parameters of {question.control!r}")

# %% [markdown]
# **Three: choosing and reporting on the same numbers.** Take ten variants that are *exactly equal*, and report the
# best. The cell simulates it with the noise measured above: the winner looks better than it is, although nothing is.

# %%
generator = np.random.default_rng(0)
noise = spread_of_differences / np.sqrt(len(pairs))  # standard error of a mean difference
best = generator.normal(0, noise, (2000, 10)).max(axis=1)  # of ten equal variants, 2000 times
print(f"the best of ten equal variants leads by {best.mean():+.2f} points on average, in truth by 0")

# %% [markdown]
# So choices were made on seeds 11 to 13, and the tables here are of other seeds *(our rule)*.
#
# **Four: many questions.** At a level of 95 %, one question in twenty finds something where nothing is. Ask ten
# independent questions and the chance of at least one false find is about 40 %. *Holm's correction* makes the p-values
# hold for all questions together; section 11.4 does it by hand.
#
# ## 11.3 A paired difference by hand
#
# For one comparison, with plain NumPy: the mean difference, the number of *wins* (pairs in which the variant is ahead),
# and a p-value from the *sign-flip test*: if the two networks were equally good, each pair's difference could as well
# have the other sign; how often do random signs give a mean as far from 0?

# %%
differences = pairs[:, 1] - pairs[:, 0]
mean, wins = differences.mean(), int((differences > 0).sum())
signs = np.random.default_rng(0).choice([-1, 1], size=(20_000, len(differences)))
p = np.mean(np.abs((signs * differences).mean(axis=1)) >= abs(mean))
judged = {entry.comparison.name: entry for entry in judge(study, rows)}
entry = judged["full network"]
assert np.isclose(mean, 100 * entry.difference) and wins == entry.wins
assert abs(p - sign_flip_p(differences)) < 0.01
print(f"full less support only: {mean:+.1f} points, {wins} wins in {len(differences)} pairs, p about {p:.4f}")
print(entry.sentence)

# %% [markdown]
# The interval in the last line resamples episodes and seeds, as in notebook 7: it says how far the difference could be
# off. **A difference whose interval contains 0 is called "no measurable difference"**, whatever its sign: these runs
# cannot tell. It does not say that there is none.
#
# ### Exercise 11.1: a paired difference (easy, 5 minutes)
#
# Write `paired(variant, control)`: two arrays of scores, entry i of both from the same pair, to the mean of variant
# less control and the number of pairs in which the variant is ahead (a draw is no win).


# %% jupyter={"source_hidden": true}
def paired(variant, control):
    # BEGIN SOLUTION
    differences = np.asarray(variant) - np.asarray(control)
    return differences.mean(), int((differences > 0).sum())
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.exercises.lesson_11 import check_paired

check_paired(paired)

# %% [markdown]
# ## 11.4 Many questions: Holm's correction
#
# Sort the m p-values. The smallest is multiplied by m, the next by m - 1, and so on; none may fall below the one
# before it, and none exceed 1. The cell does it for this study's questions and compares with the package.

# %%
names = list(judged)
p_values = np.array([judged[name].p for name in names])
order = np.argsort(p_values, kind="stable")
by_hand = np.empty(len(names))
by_hand[order] = np.minimum(1, np.maximum.accumulate((len(names) - np.arange(len(names))) * p_values[order]))
assert np.allclose(by_hand, [judged[name].p_corrected for name in names])
assert np.allclose(by_hand, holm(p_values))
for index in order:
    print(f"{names[index]:24} p {p_values[index]:.4f}, corrected {by_hand[index]:.4f}")

# %% [markdown]
# ### Exercise 11.2: Holm's correction (medium, 10 minutes)
#
# Write `my_holm(p_values)`: a list of p-values in any order to the list of their corrected values in the same order.


# %% jupyter={"source_hidden": true}
def my_holm(p_values):
    # BEGIN SOLUTION
    m, result, largest = len(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, (m - rank) * p_values[index])
        result[index] = min(1.0, largest)
    return result
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.exercises.lesson_11 import check_holm

check_holm(my_holm)

# %% [markdown]
# ## 11.5 The modules
#
# - **CCM** hypothesis: a prototype from the query itself helps where support and query differ. Experiment: with P_q,
#   and with P in its place, with and without the other modules.
# - **PIM** hypothesis: two prototypes that correct each other are better than two that do not. Experiment: with the
#   interaction and without, both prototypes present.
# - **MSF** hypothesis: context at several scales helps the dense comparison. Experiment: one scale against several.

# %%
print(score_table(study, rows))
scores_figure(study, rows)
plt.show()

# %%
differences_figure(list(judged.values()))
plt.show()
print("\n".join(entry.sentence for entry in judged.values()))

# %% [markdown]
# *What to see:* each row is one question, its bar the interval, the line at 0 "no difference". Blue bars lie to the
# right of the line, vermilion ones to the left, grey ones touch it. The sentences under the picture are the verdicts,
# made from the numbers; read CCM, PIM and MSF off them, and note where a module adds nothing that these runs can
# measure. Compare the length of the bars: questions differ in how sure one can be. And go back to the list of section
# 11.2: where the two networks differ in size, the verdict is on the module *with its parameters*. These rows cannot say
# how much of it is the idea.
#
# ## 11.6 The alternatives of each module
#
# Each module could have been built otherwise. The next cells show the shipped studies one by one, with their question
# and their verdicts; a study that does not come with the package yet says how to run it.


# %%
def show(name):
    if name not in shipped_names():
        print(f"{name}: not shipped yet; run it with: dpnet-lite ablate {name}")
        return
    study, rows = load_study(name), shipped_rows(name)
    verdicts = judge(study, rows)
    print(f"{study.question}\n\n{score_table(study, rows)}\n")
    differences_figure(verdicts)
    plt.show()
    print("\n".join(entry.sentence for entry in verdicts))


show("selection")

# %% [markdown]
# *What to see:* **selection.** How CCM picks pixels. Hypothesis: the cycle finds pixels that a plain threshold on the
# similarity does not. The oracle knows the truth: its lead is what any better rule could still win.

# %%
show("interaction")

# %% [markdown]
# *What to see:* **interaction.** Four forms of PIM against none. Hypothesis: the correlation of both prototypes carries
# what their mean does not.

# %%
show("scales")

# %% [markdown]
# *What to see:* **scales.** A pyramid of two to four scales, and dilated convolutions at one. The toy world draws the
# radius of its objects from a range whose ends differ by less than a factor of two, which may leave a pyramid little to
# gain; photographs may differ.

# %%
show("aux")

# %% [markdown]
# *What to see:* **auxiliary branch**, used in training only. Hypothesis: a second loss close to the prototypes teaches
# them more directly.

# %%
show("rivals")

# %% [markdown]
# *What to see:* **rivals**, ideas from outside the paper under the same protocol: small reconstructions on the same
# frozen features, not the published networks (see [the method](../docs/method.md#rivals)).
#
# ## 11.7 The live lab
#
# Change a switch: a short paired run trains that variant and the full network, on two folds with two seeds each, in the
# background. Its orange bar joins the blue ones of the shipped study, which had about eight times the steps and more
# pairs. A second variant takes half the time, for the full network is trained already. *Stop* gives a run up.

# %%
from dpnet_lite.explorers.apps import live_ablation

live_ablation()

# %% [markdown]
# *What to see:* before you change a switch there are only the shipped bars, each the difference between a variant and
# the full network; it has just the modules that it names. Expect the live bars to be long: a short run is a weak
# witness. If a short bar disagrees with a long one, believe the long one.
#
# ## 11.8 A study of your own
#
# A study is a text file. This one asks whether the background prototype helps, alone and with the auxiliary branch:

# %%
import tempfile
from pathlib import Path

text = """
title = "The background prototype"
question = "Does comparing with the support's background help?"
seeds = [1, 2, 3]
model = { interaction = "joint", fusion = "aspp" }
training = { steps = 500, batch_size = 4 }

[[variant]]
name = "without"
model = { background = false }

[[variant]]
name = "with"

[[comparison]]
name = "background"
variant = "with"
control = "without"
"""
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "background.toml"
    path.write_text(text)
    own = load_study(str(path))
runs = len(own.variants) * len(own.folds) * len(own.seeds)
minutes = runs * np.mean([row["training_seconds"] for row in rows if row["parameters"]]) / 60
print(f"{own.title}: {runs} runs; by the times of the shipped rows about {minutes:.0f} minutes of one core")

# %% [markdown]
# Save such a text as `background.toml` and call `dpnet-lite ablate background.toml`. The report lies in
# `outputs/ablation/toy/background/` afterwards, as Markdown and as a web page. You may stop it at any time and go on
# with the same command. `--data folder:my_photos` runs it on photographs of your own, `--engine ray` on many machines.
#
# ## Recap
#
# - Pair what you compare: same episodes, same start, same test.
# - Give every variant the same budget, and add a control that has the parameters without the idea.
# - Choose on some seeds, report on others; correct for the number of questions.
# - "No measurable difference" is a result. Say it.
#
# **Further reading.** [All studies](../docs/results.md#ablations); Holm, *A simple sequentially rejective multiple test
# procedure*, 1979; Bouthillier et al., *Accounting for variance in machine learning benchmarks*, MLSys 2021.
#
# Previous: [10 Your own images](10_your_own_images.ipynb). Next: [12 When does it pay?](12_when_does_it_pay.ipynb)
