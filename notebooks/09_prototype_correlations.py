# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9. Prototype correlations
#
# [Start here](00_start_here.ipynb) | [3 Cycle comparison](03_cycle_comparison.ipynb) |
# [4 Prototype interaction](04_prototype_interaction.ipynb) |
# [8 Inside the selection](08_inside_the_selection.ipynb) | **9 Prototype correlations** |
# [10 Your own images](10_your_own_images.ipynb)
#
# **What you will learn.** How to measure the correlation of prototypes and pseudo-prototypes within and across
# classes, before and after the interaction: with heat maps, with the nearest class, with pictures in two dimensions and
# with the silhouette; and which of these measures can mislead.
#
# **What you need.** [Notebook 3](03_cycle_comparison.ipynb): P, $P_q$ and the precision of a selection;
# [notebook 4](04_prototype_interaction.ipynb): the interaction, which makes $P'$ and $P_q'$.
#
# **Time.** About 45 minutes with the two exercises. The cells run in about half a minute.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
import torch.nn.functional as functional

from dpnet_lite.course.analysis.prototypes import collect_prototypes, disjoint_episodes
from dpnet_lite.course.explorers.episode import toy_episodes
from dpnet_lite.experiments.plots import BLACK, BLUE, GREEN, ORANGE

FOLD, SCENES, PER_CLASS = 0, 600, 10
toy = toy_episodes(FOLD, gap=0.5, n_scenes=SCENES)

# %% [markdown]
# ## 9.1 Many episodes, none of which shares an image with another
#
# The paper uses the correlation of P and $P_q$ to reinforce three things *(stated)*. How alike the two are in numbers
# is not public. All measures of this lesson are *(our choice)*, and so is the data: the novel classes of one fold of
# the drawn world, which the network never saw in training.
#
# An **episode** gives five vectors: P and $P_q$ before the interaction, $P'$ and $P_q'$ after it, and *own*, the
# prototype that the query's true mask would give. The last is no method; it is what a perfect selection would find.
#
# One trap lies in the choice of episodes. If the query of one episode is the support of another, then *own* of the
# first and P of the second are the same vector, and any measure across episodes is flattered. So we keep only episodes
# that share no image. They are then independent, too, which the intervals below rely on.

# %%
episodes = disjoint_episodes(toy.episodes(count=2000), per_class=PER_CLASS)
found = collect_prototypes(toy, episodes)
labels, names, vectors = found.labels, found.class_names, found.vectors
outlines = np.array([name.split()[1] for name in names])  # a class is a texture and an outline
textures = np.array([name.split()[0] for name in names])
images = [image for episode in episodes for image in (episode.query, *episode.support)]
assert len(images) == len(set(images))
print(f"{len(labels)} episodes with {len(images)} different images; {vectors['P'].shape[1]} channels")
print(f"{len(names)} classes: {len(set(outlines))} outlines ({', '.join(dict.fromkeys(outlines))})")
print(f"with 2 or 3 of {len(set(textures))} textures each ({', '.join(dict.fromkeys(textures))})")
right = found.precisions >= 0.5
print(f"the selection lies mostly on the object in {right.sum()} episodes, on something else in {(~right).sum()}")
print(f"mean IoU {found.ious.mean():.2f}: {found.ious[right].mean():.2f} and {found.ious[~right].mean():.2f}")

# %% [markdown]
# ## 9.2 Heat maps: class by class
#
# Which correlation? There are three usual ones, and they answer different questions. For vectors a and b with C
# channels:
#
# - the **cosine**, $\cos(a, b)$, as everywhere in this course;
# - the **Pearson correlation**, $\cos(a - \bar a,\; b - \bar b)$: from each vector the mean of its *own channels*, one
#   number $\bar a$, is taken away first. A number added to all channels alike changes the cosine, but not this;
# - the **centred cosine**, $\cos(a - m_a,\; b - m_b)$: here $m_a$ is the mean *vector* of all P, and $m_b$ that of
#   all $P_q$. What every class has in common is gone; what remains sets a class apart from the average.
#
# Why not the cosine alone? The features come out of a ReLU, so no channel is negative. Two vectors of
# non-negative numbers never have a negative cosine, and channels that are strong for every class make every two
# vectors alike.

# %%
from dpnet_lite.course.analysis.prototypes import centred, class_table, cosines, pearson

P, P_q = vectors["P"], vectors["P_q"]  # [N, C] each
a, b = P[0] - P.mean(dim=0), P_q[1] - P_q.mean(dim=0)
assert torch.allclose(a @ b / (a.norm() * b.norm()), cosines(centred(P), centred(P_q))[0, 1], atol=1e-5)
assert np.isclose(np.corrcoef(P[0], P_q[1])[0, 1], pearson(P, P_q)[0, 1], atol=1e-5)

MEASURES = {
    "cosine": cosines,
    "Pearson": pearson,
    "centred cosine": lambda a, b: cosines(centred(a), centred(b)),
}
print(f"smallest number in any P: {P.min():.2f}")
to_mean = functional.cosine_similarity(P, P.mean(dim=0)[None])
print(f"cosine of a P with the mean of all P: {to_mean.mean():.2f} on average")

# %% [markdown]
# A heat map shows a table as colours. Row a and column b: the mean over all pairs of a P of class a and a $P_q$ of
# class b, *from different episodes*. So the diagonal does not profit from the fact that the $P_q$ of an episode was
# selected with the help of the P of the same episode.


# %%
def class_heat_map(axes, table, title, *, low=0.0, colours="cividis", rows=True, ticks=names, groups=outlines) -> None:
    """A table [n, n] as colours from `low` to 1; lines part the groups."""
    sns.heatmap(
        table,
        ax=axes,
        vmin=low,
        vmax=1,
        cmap=colours,
        square=True,
        xticklabels=ticks,
        yticklabels=ticks if rows else False,
        cbar_kws={"shrink": 0.6, "location": "top", "pad": 0.02},
    )
    for edge in np.flatnonzero(groups[1:] != groups[:-1]) + 1:
        axes.axhline(edge, color="white" if low == 0 else BLACK, linewidth=1.5)
        axes.axvline(edge, color="white" if low == 0 else BLACK, linewidth=1.5)
    axes.tick_params(labelsize=9.5)
    axes.set_xlabel(title, fontsize=12)


tables = {name: class_table(measure(P, P_q), labels) for name, measure in MEASURES.items()}
figure, axes = plt.subplots(1, 2, figsize=(10.5, 7), layout="constrained")
class_heat_map(axes[0], tables["cosine"], "cosine of $P$ (rows) and $P_q$ (columns)")
class_heat_map(axes[1], tables["centred cosine"], "centred cosine", low=-1, colours="PuOr", rows=False)
plt.show()
for name, table in tables.items():
    off = table[~torch.eye(len(names), dtype=torch.bool)]
    print(
        f"{name:15} diagonal {table.diagonal().mean():5.2f}, elsewhere from {off.min():5.2f} to {off.max():5.2f}, "
        f"mean {off.mean():5.2f}"
    )

# %% [markdown]
# *What to see:* left, the diagonal is brightest on average, but few cells are dark: even classes that share neither
# outline nor texture have a cosine well above 0. Right, the common part is gone and the pattern is plain. The lines
# enclose classes of one outline. These blocks stand out: classes of the same outline resemble each other, although
# their textures differ.

# %% [markdown]
# ### Exercise 9.1: class by class (medium, 10 minutes)
#
# Write `my_class_cosines(points, labels)` for `points` [N, C] and `labels`, whole numbers [N] from 0 to n - 1. Return
# the table [n, n]: entry (a, b) is the mean cosine over all pairs of a point of class a and a *different* point of
# class b.


# %% jupyter={"source_hidden": true}
def my_class_cosines(points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cosine of every two classes, without the pairs of a point and itself."""
    # BEGIN SOLUTION
    directions = points / points.norm(dim=1, keepdim=True)
    similarity = directions @ directions.T  # [N, N]
    different = ~torch.eye(len(points), dtype=torch.bool)
    n = int(labels.max()) + 1
    table = torch.zeros(n, n)
    for row in range(n):
        for column in range(n):
            pairs = different & (labels == row)[:, None] & (labels == column)[None, :]  # [N, N]
            table[row, column] = similarity[pairs].mean()
    return table
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_09 import check_class_cosines

check_class_cosines(my_class_cosines)

# %% [markdown]
# ### Before and after the interaction
#
# Five groups of pairs: P and $P_q$ of the *own* episode; of the same class in different episodes; of classes that
# share the outline only; that share the texture only; that share neither. The intervals are 95 % intervals of the
# mean: the episodes of each class are drawn anew, with replacement, a thousand times (a *bootstrap*), and both sides of
# a difference get the same draw.

# %%
from dpnet_lite.course.analysis.prototypes import pair_means
from dpnet_lite.experiments.intervals import bootstrap_weights, percentile_interval

weights = bootstrap_weights(labels, 1000)  # [1000, N]: how often each episode is drawn
same_class = (labels[:, None] == labels[None]).numpy()  # [N, N]
same_outline = outlines[labels][:, None] == outlines[labels][None]
same_texture = textures[labels][:, None] == textures[labels][None]
GROUPS = {
    "same class": same_class,
    "same outline only": same_outline & ~same_class,
    "same texture only": same_texture & ~same_class,
    "neither": ~same_outline & ~same_texture,
}
once = np.ones((1, len(labels)))  # every episode once: the plain mean


def group_means(values: np.ndarray, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Mean of a measure [N, N] over each group of pairs, for each row of draws."""
    own = draws @ values.diagonal() / draws.sum(axis=1)
    return {"own episode": own, **{name: pair_means(values, pairs, draws) for name, pairs in GROUPS.items()}}


values = {
    name: [measure(vectors[p], vectors[q]).numpy() for p, q in (("P", "P_q"), ("P'", "P_q'"))]
    for name, measure in MEASURES.items()
}
print(f"{'':33} before                after   difference")
for name, (before, after) in values.items():
    means, changes = group_means(before, once), group_means(after - before, once)
    spread, spread_changes = group_means(before, weights), group_means(after - before, weights)
    for group, mean in means.items():
        low, high = percentile_interval(spread[group])
        low_change, high_change = percentile_interval(spread_changes[group])
        change = changes[group][0]
        print(
            f"{name:15}{group:18}{mean[0]:6.3f} [{low:6.3f}, {high:6.3f}] {mean[0] + change:6.3f} "
            f"{change:+7.3f} [{low_change:+.3f}, {high_change:+.3f}]"
        )

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
different = ~np.eye(len(labels), dtype=bool)
for panel, (name, low) in zip(axes, (("cosine", 0.0), ("centred cosine", -1.0)), strict=True):
    for pairs, colour, who in ((same_class & different, BLUE, "same class"), (~same_class, ORANGE, "other class")):
        for matrix, style, when in zip(values[name], ("-", "--"), ("before", "after"), strict=True):
            shares, edges = np.histogram(matrix[pairs], bins=30, range=(low, 1))
            panel.stairs(
                100 * shares / shares.sum(), edges, color=colour, linestyle=style, linewidth=2, label=f"{who}, {when}"
            )
    panel.set(xlabel=f"{name} of a $P$ and a $P_q$", ylim=(0, None), xticks=np.linspace(low, 1, 5))
axes[0].set_ylabel("share of the pairs, %")
axes[0].legend(frameon=False, fontsize=10, loc="upper left")
plt.show()

# %% [markdown]
# *What to see:* within a class P and $P_q$ are far more alike than across classes; of the other classes, those of the
# same outline come first. In the *own* episode the two are more alike than in two episodes of the class. Some of that
# is by construction, since $P_q$ was selected with the help of this P; the step to the other classes is much larger.
#
# After the interaction the cosine falls in every group, and most for pairs that do not share the outline. One might
# report that the interaction drives classes apart. But by the centred cosine classes that share nothing stay where they
# were, and it is pairs of *one* class that become a little less alike. Measures that disagree ask for an explanation.
# Two things happen to a prototype (lesson 4): the exchange with the other one, and the weights u. The next cell takes
# them apart.

# %%
module, u = toy.head.interaction, found.weights  # u [N, C]
print(f"learned: g1 = {float(module.g1.detach()):+.3f}, g2 = {float(module.g2.detach()):+.3f}")
print(f"u: mean {u.mean():.2f}, from {u.quantile(0.05):.2f} to {u.quantile(0.95):.2f} in nine of ten cases")
for kind in ("P", "P_q"):
    change = vectors[kind + "'"] / u - vectors[kind]  # by the exchange alone, [N, C]
    flat = change.mean(dim=1, keepdim=True).expand_as(change)  # the part that is the same in all channels
    size = (change.norm(dim=1) / vectors[kind].norm(dim=1)).mean()
    share = (flat.square().sum(dim=1) / change.square().sum(dim=1)).mean()
    print(
        f"the exchange changes {kind} by {100 * size:.1f} % of its length; "
        f"{100 * share:.1f} % of the squared change is the same number in every channel"
    )

STEPS = {
    "exchange": {kind: vectors[kind + "'"] / u for kind in ("P", "P_q")},
    "weights": {kind: u * vectors[kind] for kind in ("P", "P_q")},
}
print(f"\n{'change of the cosine, by':28}" + "".join(f"{step:>24}" for step in STEPS))
for name, measure in MEASURES.items():
    changes = {step: measure(made["P"], made["P_q"]).numpy() - values[name][0] for step, made in STEPS.items()}
    for group in ("own episode", "same class", "neither"):
        line = ""
        for change in changes.values():
            low, high = percentile_interval(group_means(change, weights)[group])
            line += f"{group_means(change, once)[group][0]:+10.3f} [{low:+.3f}, {high:+.3f}]"
        print(f"{name:15}{group:13}{line}")
attention = torch.stack([toy.open(e).trace.interaction.correlation[0].softmax(dim=1) for e in episodes[:20]])
print(
    f"mean of the largest weight in a row of the softmax: {attention.amax(dim=-1).mean():.3f}; "
    f"all equal would be {1 / P.shape[1]:.3f}"
)

# %% [markdown]
# *What to see:* the softmax is nearly flat, so each channel takes about the plain mean of the other prototype, and with
# a negative $g$ about the same number is taken away from all channels. That lowers the cosine of nearly every two
# vectors, most where they were least alike; Pearson's correlation looks at differences from the vector's own mean and
# does not see it at all. What the other two measures see are the weights, which differ from channel to channel. Both
# say that prototypes of one class become a little less alike; but by Pearson's correlation those of other classes do so
# even more, and by the centred cosine not at all. So no step brings prototypes closer to their class, and whether the
# weights part classes depends on the measure. This holds for *our* formulas
# ([The method](../docs/method.md#prototype-interaction-module-pim)) in this trained network. The paper's formula is not
# public, and it may do more.

# %% [markdown]
# ## 9.3 The nearest class
#
# A mean cosine says little about single episodes. A sharper question: take the mean P of every class, and ask which of
# them is nearest to the $P_q$ of an episode. Is it the episode's own class? There is one more trap: the mean of the own
# class must not contain the P of this very episode, or the episode helps itself. It is **left out**.
#
# ### Exercise 9.2: accuracy without the own episode (medium, 15 minutes)
#
# Write `my_nearest_accuracy(points, references, labels)` for `points` and `references` [N, C] and whole numbers
# `labels` [N]; row i of all three belongs to episode i. For each point, take the mean reference of every class, as they
# are, without reference i; the class with the largest cosine is the answer. Return the share of right answers.


# %% jupyter={"source_hidden": true}
def my_nearest_accuracy(points: torch.Tensor, references: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of the points whose nearest class mean is that of their own class."""
    # BEGIN SOLUTION
    hits = 0
    for i in range(len(points)):
        others = torch.arange(len(points)) != i
        means = torch.stack([references[others & (labels == k)].mean(dim=0) for k in range(int(labels.max()) + 1)])
        hits += int(functional.cosine_similarity(means, points[i][None]).argmax() == labels[i])
    return hits / len(points)
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_09 import check_nearest_accuracy

check_nearest_accuracy(my_nearest_accuracy)

# %% [markdown]
# The same with the package, for all five vectors. The references are the P of the other episodes (the $P'$ for vectors
# after the interaction). The third column shows what the trap would have made of it.

# %%
from dpnet_lite.course.analysis.prototypes import nearest_class

REFERENCES = {"P": "P", "P_q": "P", "P'": "P'", "P_q'": "P'", "own": "P"}
nearest = {kind: nearest_class(vectors[kind], vectors[r], labels) for kind, r in REFERENCES.items()}
hits = {kind: (answer == labels).double().numpy() for kind, answer in nearest.items()}
drawn = weights / weights.sum(axis=1, keepdims=True)  # [1000, N]
print(f"by chance: {100 / len(names):.0f} %")
print(f"{'':6}own class nearest, %   with the own episode   where the selection is right / wrong")
for kind, reference in REFERENCES.items():
    trap = nearest_class(vectors[kind], vectors[reference], labels, leave_own_out=False)
    low, high = percentile_interval(100 * drawn @ hits[kind])
    print(
        f"{kind:6}{100 * hits[kind].mean():8.1f} [{low:.1f}, {high:.1f}] "
        f"{100 * (trap == labels).double().mean():16.1f} "
        f"{100 * hits[kind][right].mean():22.1f} / {100 * hits[kind][~right].mean():.1f}"
    )
for first, second in (("P_q'", "P_q"), ("P'", "P"), ("own", "P_q")):
    difference = 100 * (hits[first] - hits[second])
    low, high = percentile_interval(drawn @ difference)
    print(f"{first} less {second}: {difference.mean():+.1f} points [{low:+.1f}, {high:+.1f}]")

# %%
from sklearn.metrics import confusion_matrix

figure, axes = plt.subplots(1, 2, figsize=(10.5, 7), layout="constrained")
for panel, kind, title in zip(axes, ("P_q", "own"), ("$P_q$", "the query's own prototype"), strict=True):
    shares = confusion_matrix(labels, nearest[kind], normalize="true")
    class_heat_map(panel, shares, f"nearest class of {title}", rows=kind == "P_q")
axes[0].set_ylabel("class of the episode", fontsize=12)
plt.show()
for kind in ("P_q", "own"):
    wrong = nearest[kind] != labels
    own, other = labels[wrong].numpy(), nearest[kind][wrong].numpy()
    shared = [100 * (part[own] == part[other]).mean() for part in (outlines, textures)]
    print(
        f"{kind}: {int(wrong.sum())} wrong answers; {shared[0]:.0f} % have the outline of the right one, "
        f"{shared[1]:.0f} % its texture"
    )
other_class = ~np.eye(len(names), dtype=bool)
chances = [100 * (part[:, None] == part[None])[other_class].mean() for part in (outlines, textures)]
print(f"any other class, drawn at random: {chances[0]:.0f} % and {chances[1]:.0f} %")

# %% [markdown]
# *What to see:* a row is the class of the episode; the colours are shares of its episodes. Most lie on the diagonal in
# both pictures. What is off it comes from two sources. The right picture has no selection that could fail, so what is
# off its diagonal is due to the features: objects of one class that look different, and classes that look alike. What
# the left one has in addition is due to the selection: where that lies on another object, $P_q$ rarely has its own
# class nearest (last column of the list). That other object may be of a class that is not among the twenty; the
# nearest of the twenty is then no more than the best of wrong answers. Wrong answers have the right *outline* much more
# often than chance would have it, the right texture hardly more often.
#
# The list says one more thing: where the selection is wrong, P, too, has its own class nearest less often. A
# support that is not typical of its class and a wrong selection go together.
#
# The last lines of the list say whether the interaction brings the prototypes closer to their class. An interval that
# contains 0 shows no difference. Here nearly every episode gets the same answer before and after.

# %% [markdown]
# ## 9.4 Pictures in two dimensions: PCA and t-SNE
#
# Neither method can show all channels; they give up different things.
#
# - **PCA** (principal component analysis) is a projection: it turns the cloud so that its two longest directions lie on
#   the paper. Distances on paper are true distances with a part missing, and the share of the variance that is shown
#   can be printed.
# - **t-SNE** moves points about until *near neighbours* in the full space are near on paper. It keeps who is
#   next to whom. Distances between groups, and how wide a group is, are not what it is asked to keep: do not read them
#   from the picture.
#
# Its **perplexity** says about how many neighbours count. We show two values, because a pattern that only one of them
# has is not to be trusted. All vectors are brought to length 1 first, since the cosine does not look at lengths.
# With all classes named the picture would be a thicket: the fold's first eight classes are named, the others are grey
# dots.

# %%
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

points = functional.normalize(torch.cat([P, P_q]), dim=1).numpy()  # [2 N, C]: all P, then all P_q
pca = PCA(n_components=2, random_state=0).fit(points)
layouts = {"PCA": pca.transform(points)}
for perplexity in (5, 50):
    tsne = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=0)
    layouts[f"t-SNE, perplexity {perplexity}"] = tsne.fit_transform(points)

NAMED = 8
colours = dict(zip(dict.fromkeys(outlines[:NAMED]), (BLUE, ORANGE, GREEN, BLACK, "#CC79A7"), strict=False))
markers = dict(zip(dict.fromkeys(textures), "osD^v", strict=True))
both_labels = torch.cat([labels, labels]).numpy()
is_pseudo = np.arange(len(points)) >= len(labels)


def draw_layout(axes, layout, title) -> None:
    """Filled: P; hollow: P_q. Colour is the outline, marker the texture; a line leads to the middle of a class's P."""
    axes.scatter(*layout[both_labels >= NAMED].T, s=6, color="#BBBBBB")
    for number in range(NAMED):
        colour, marker = colours[outlines[number]], markers[textures[number]]
        for pseudo in (False, True):
            chosen = layout[(both_labels == number) & (is_pseudo == pseudo)]
            axes.scatter(*chosen.T, s=34, marker=marker, facecolor="none" if pseudo else colour, edgecolor=colour)
    (left, low), (right_end, high) = layout.min(axis=0), layout.max(axis=0)
    margin = 0.08 * (right_end - left)
    middles = np.array([np.median(layout[(both_labels == n) & ~is_pseudo], axis=0) for n in range(NAMED)])
    on_left = middles[:, 0] < (left + right_end) / 2
    for side, x, align in ((on_left, left - margin, "right"), (~on_left, right_end + margin, "left")):
        order = sorted(np.flatnonzero(side), key=lambda n: middles[n, 1])  # names in a column, lowest first
        for row, number in enumerate(order, start=1):
            spot = (x, low + row / (len(order) + 1) * (high - low))
            axes.annotate(
                names[number],
                middles[number],
                xytext=spot,
                fontsize=11,
                va="center",
                ha=align,
                arrowprops={"arrowstyle": "-", "linewidth": 0.8, "color": "#555555"},
            )
    axes.set_xlim(left - 5 * margin, right_end + 5 * margin)  # room for the names
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=12)


figure, axes = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
draw_layout(axes, layouts["PCA"], f"PCA: {100 * pca.explained_variance_ratio_.sum():.0f} % of the variance")
plt.show()

# %%
figure, axes = plt.subplots(2, 1, figsize=(7.5, 8.6), layout="constrained")
for panel, (title, layout) in zip(axes, list(layouts.items())[1:], strict=True):
    draw_layout(panel, layout, title)
plt.show()


def centres_and_widths(layout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances between class means, one for each two classes, and the mean distance of a class to its mean."""
    groups = [layout[both_labels == number] for number in range(len(names))]
    means = np.stack([group.mean(axis=0) for group in groups])
    between = np.linalg.norm(means[:, None] - means[None], axis=2)[np.triu_indices(len(names), 1)]
    return between, np.array([np.linalg.norm(g - m, axis=1).mean() for g, m in zip(groups, means, strict=True)])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


print(f"{'':22}neighbours   distances between classes   widths of classes")
for title, layout in layouts.items():
    kept = trustworthiness(points, layout, n_neighbors=10, metric="cosine")
    between, widths = (
        rank_correlation(a, b) for a, b in zip(centres_and_widths(layout), centres_and_widths(points), strict=True)
    )
    print(f"{title:22}{kept:8.2f} {between:20.2f} {widths:23.2f}")

# %% [markdown]
# *What to see:* filled marks are P, hollow ones $P_q$; the colour is the outline, the shape of the mark the texture. A
# thin line leads from a name to the middle of its P. Filled and hollow marks of a class mostly lie in the same place:
# $P_q$ comes from another image, and yet lands where P is. PCA lays many classes on top of one another; t-SNE pulls
# them apart, with the small perplexity into many scraps.
#
# The table says what each picture keeps. *Neighbours* is scikit-learn's trustworthiness of the ten nearest neighbours
# (1: all of them were neighbours before). The other two columns are rank correlations of a quantity on paper with the
# same quantity in the full space (1: same order, 0: unrelated): the distances between class means, and how widely the
# points of a class are spread. Both are kept in part, though t-SNE does not promise it, and not alike by the two
# perplexities; another fold gives other values, and the picture does not show which. So use pictures to find what to
# measure, and measure it in the full space.

# %% [markdown]
# ## 9.5 One number: the silhouette
#
# For a point i let $a_i$ be its mean distance to the other points of its class, and $b_i$ the smallest mean distance to
# the points of another class. The **silhouette** is
#
# $$s_i = \frac{b_i - a_i}{\max(a_i, b_i)}$$
#
# It is 1 where a class is a tight cluster far from others, 0 on a border, negative where another class is nearer. The
# distance here is 1 less the cosine.

# %%
from sklearn.metrics import silhouette_samples

distances = 1 - cosines(P, P)
one_hot = functional.one_hot(labels).float()  # [N, n]
sums = distances.fill_diagonal_(0) @ one_hot  # [N, n]
sizes = one_hot.sum(dim=0)
to_own = sums[one_hot.bool()] / (sizes[labels] - 1)
to_others = (sums / sizes).masked_fill(one_hot.bool(), torch.inf).amin(dim=1)
by_hand = (to_others - to_own) / torch.maximum(to_own, to_others)
assert np.allclose(by_hand, silhouette_samples(P.numpy(), labels.numpy(), metric="cosine"), atol=1e-3)

# %% [markdown]
# Now for a growing gap between support and query. The interval draws the episodes' $s_i$ anew, with the distances as
# they are.

# %%
from dpnet_lite.course.opened_episode import ToyEpisodes

dial = {0.0: None, 0.5: found, 1.0: None}
for gap in (0.0, 1.0):
    at_gap = ToyEpisodes(FOLD, gap=gap, n_scenes=SCENES)
    dial[gap] = collect_prototypes(at_gap, disjoint_episodes(at_gap.episodes(count=2000), per_class=PER_CLASS))

STYLES = {"P": ("o", BLUE), "P'": ("s", BLUE), "P_q": ("o", ORANGE), "P_q'": ("s", ORANGE), "own": ("D", GREEN)}
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
print(f"{'gap':5}{'':5}silhouette")
for gap, at_gap in dial.items():
    draws = bootstrap_weights(at_gap.labels, 1000)
    draws /= draws.sum(axis=1, keepdims=True)
    for position, (kind, (marker, colour)) in enumerate(STYLES.items()):
        silhouettes = silhouette_samples(at_gap.vectors[kind].numpy(), at_gap.labels.numpy(), metric="cosine")
        low, high = percentile_interval(draws @ silhouettes)
        mean = silhouettes.mean()
        print(f"{gap:<5}{kind:5}{mean:6.3f} [{low:.3f}, {high:.3f}]")
        axes.errorbar(
            gap + 0.035 * (position - 2),
            mean,
            [[mean - low], [high - mean]],
            fmt=marker,
            color=colour,
            markerfacecolor="none" if "'" in kind else colour,
            capsize=3,
            label=f"${kind}$" if kind != "own" else kind,
        )
handles, texts = axes.get_legend_handles_labels()
axes.legend(handles[: len(STYLES)], texts[: len(STYLES)], frameon=False, fontsize=11)  # each once
axes.axhline(0, color="grey", linewidth=1)
axes.set_xticks(list(dial))
axes.set_xlabel("gap", fontsize=12)
axes.set_ylabel("silhouette by class", fontsize=12)
plt.show()

# %% [markdown]
# *What to see:* filled and hollow marks of a colour, before and after the interaction, lie at the same height. What
# decides is the gap: the more the objects of a class differ, the less the class is a cluster, for the perfect selection
# as well. So a prototype can be right for its *query* and yet look little like its *class*: a low silhouette is no
# proof of a bad selection.
# The step from $P_q$ to *own* is what a perfect selection would add.

# %% [markdown]
# ## 9.6 Does agreement mean a better mask?
#
# If P and $P_q$ of an episode agree, may one trust the mask? The coefficient r below is the Pearson correlation over
# episodes of a measure with the IoU. The second number asks the measure to tell a right selection from a wrong one:
# the share of pairs (one right episode, one wrong) in which the right one has the higher value, known as the area under
# the ROC curve. A coin would give 0.5.

# %%
from sklearn.metrics import roc_auc_score

from dpnet_lite.experiments.intervals import weighted_correlation


def own_pairs(first: str, second: str, *, minus_mean: bool = False) -> np.ndarray:
    """Cosine of two vectors of the same episode, [N]."""
    a, b = (centred(vectors[kind]) if minus_mean else vectors[kind] for kind in (first, second))
    return functional.cosine_similarity(a, b).numpy()


known = {
    "cosine of P and P_q": own_pairs("P", "P_q"),
    "the same, centred": own_pairs("P", "P_q", minus_mean=True),
    "cosine of P' and P_q'": own_pairs("P'", "P_q'"),
}
with_truth = {
    "cosine of P and own": own_pairs("P", "own"),
    "cosine of P_q and own": own_pairs("P_q", "own"),
    "precision of the selection": found.precisions,
}
print(f"{'':30}r with the IoU            right above wrong")
for name, x in {**known, **with_truth}.items():
    low, high = percentile_interval(weighted_correlation(x, found.ious, weights))
    r = np.corrcoef(x, found.ious)[0, 1]
    told = "by definition" if name.startswith("precision") else f"{roc_auc_score(right, x):.2f}"
    print(f"{name:30}{r:5.2f} [{low:.2f}, {high:.2f}] {told:>22}")

agreement, share = known["cosine of P and P_q"].astype(float)[right], weights[:, right]
low, high = percentile_interval(weighted_correlation(agreement, found.ious[right], share))
r = np.corrcoef(agreement, found.ious[right])[0, 1]
print(f"among right selections alone, cosine of P and P_q: r = {r:.2f} [{low:.2f}, {high:.2f}]")

figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
for panel, (name, title) in zip(
    axes, (("cosine of P and P_q", "$P$ and $P_q$"), ("cosine of P_q and own", "$P_q$ and own")), strict=True
):
    x = {**known, **with_truth}[name]
    panel.scatter(x[right], found.ious[right], color=BLUE, alpha=0.6, label="selection on the object")
    panel.scatter(
        x[~right],
        found.ious[~right],
        color=ORANGE,
        marker="X",
        edgecolor=BLACK,
        linewidth=0.5,
        label="selection elsewhere",
    )
    panel.set_xlabel(f"cosine of {title}", fontsize=12)
axes[0].set_ylabel("IoU of the mask", fontsize=12)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=11)
plt.show()

# %% [markdown]
# *What to see:* left, a measure that a method could use. Crosses, the wrong selections, lie more to the left on
# average, but over most of the range: P and $P_q$ agree there, too. No wonder: the selection looks for what is like P,
# so $P_q$ is like P by construction, also where it sits on another object that shares something with the class. And
# among the right selections alone, a higher cosine says little or nothing of the mask (the line below the table; set
# another FOLD in the first cell to see how it varies). Right, a measure that needs the truth. It parts the two groups
# almost by definition, since it asks whether $P_q$ found the *query's* object.
#
# So the agreement of the two prototypes is a sign of a good mask, but an unsure one. [Results](../docs/results.md)
# tells of trials to find the right object by other measures; none was better than the cosine with P.

# %% [markdown]
# ## 9.7 On photographs: 13 objects and their kin
#
# The package brings photographs of 13 objects, each before several backgrounds, and a head that saw none of them in
# training. Every photograph gives one P. Two groups are *kin*: two sneakers, and three stuffed animals. Does an object
# resemble itself more than its kin, and its kin more than strangers? All pairs are of *different* photographs; as in
# 9.2, the centred cosine takes away what all have in common.

# %%
from dpnet_lite.checkpoints import load_trained
from dpnet_lite.course.explorers.panels import show_image
from dpnet_lite.datasets import OBJECTS_CREDIT, objects
from dpnet_lite.features import compute_features
from dpnet_lite.model.prototypes import masked_average, masks_at

KIN = (("sneaker", "shiny sneaker"), ("teddy bear", "toy sloth", "toy wolf"))
photographs, trained = objects(), load_trained("photographs")
bank = compute_features(photographs, trained.backbone, size=trained.size)
things = np.array(photographs.class_names)
which = photographs.class_areas.argmax(axis=1)  # each photograph shows one object, [67]
features = torch.from_numpy(bank.features[:, 0]).float().permute(0, 3, 1, 2)  # [67, h, w, D] -> [67, D, h, w]
object_masks = torch.stack([bank.binary_labels(i, int(k)) == 1 for i, k in enumerate(which)])  # [67, H, W]
with torch.no_grad():
    photo_P = masked_average(trained.head.reduce(features), masks_at(object_masks, features.shape[-2:]))  # [67, C]

kin_first = [name for group in KIN for name in group]
order = np.array([list(things).index(n) for n in [*kin_first, *(n for n in things if n not in kin_first)]])
group_of = np.array([next((k for k, group in enumerate(KIN) if n in group), 2 + i) for i, n in enumerate(things)])
photo_cosines = {"cosine": cosines(photo_P, photo_P), "centred cosine": cosines(centred(photo_P), centred(photo_P))}
of_objects = {
    name: class_table(values, torch.from_numpy(which))[order][:, order].numpy()
    for name, values in photo_cosines.items()
}
figure, grid = plt.subplots(2, 7, figsize=(10.5, 3.6), layout="constrained")
for axes, k in zip(grid.flat, order, strict=False):
    first = photographs[int(np.argmax(which == k))]
    show_image(axes, first.image.permute(1, 2, 0).numpy(), str(things[k]))
grid[-1, -1].set_axis_off()
plt.show()
print(OBJECTS_CREDIT)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10.5, 6.6), layout="constrained")
styles = ({"low": 0.0}, {"low": -1, "colours": "PuOr", "rows": False})
for panel, (name, table), style in zip(axes, of_objects.items(), styles, strict=True):
    class_heat_map(panel, table, f"{name} of two $P$", ticks=things[order], groups=group_of[order], **style)
plt.show()


# %%
def compare(values: torch.Tensor) -> None:
    """Say for each object whether its photographs are nearer to each other than to those of any other object."""
    table = class_table(values, torch.from_numpy(which)).numpy()  # [13, 13]
    own, rest = table.diagonal(), np.where(np.eye(len(table), dtype=bool), -np.inf, table)
    nearest = rest.argmax(axis=1)
    wrong = [f"{things[k]} (nearer to {things[nearest[k]]})" for k in np.flatnonzero(own <= rest.max(axis=1))]
    print(f"  nearer to itself than to any other object: {len(own) - len(wrong)} of {len(own)}")
    print("  all but: " + ", ".join(wrong) if wrong else "  no exception")
    for k in np.flatnonzero(group_of < len(KIN)):
        kin = np.flatnonzero((group_of == group_of[k]) & (np.arange(len(things)) != k))
        strangers = np.flatnonzero(group_of != group_of[k])
        next_one = strangers[table[k, strangers].argmax()]
        closer = (
            "nearer to its kin than to any stranger"
            if table[k, kin].mean() > table[k, next_one]
            else f"nearer to the {things[next_one]} ({table[k, next_one]:.2f}) than to its kin"
        )
        print(
            f"  {things[k]:14} itself {own[k]:5.2f}, its kin {table[k, kin].mean():5.2f}, "
            f"strangers on average {table[k, strangers].mean():5.2f}: {closer}"
        )
    others = values.clone().fill_diagonal_(-2).argmax(dim=1)  # the nearest other photograph
    same = which[others] == which
    of_kin = ~same & (group_of[which[others]] == group_of[which])
    print(f"  the nearest photograph shows the same object: {same.sum()} of {len(same)}; its kin: {of_kin.sum()}")


for name, values in photo_cosines.items():
    print(name)
    compare(values)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10.5, 6.4), layout="constrained")
for panel, group in zip(axes, KIN, strict=True):
    members = np.concatenate([np.flatnonzero(things[which] == name) for name in group])
    values = photo_cosines["centred cosine"][members][:, members]
    numbers = [f"{things[which[m]]} {m - int((which < which[m]).sum()) + 1}" for m in members]
    style = {"low": -1, "colours": "PuOr", "ticks": numbers, "groups": which[members]}
    class_heat_map(panel, values, "centred cosine", **style)
plt.show()

# %% [markdown]
# *What to see:* first heat maps: a row is an object; the two groups of kin come first; lines part the groups. The
# diagonal compares an object with itself in other photographs, so it measures what light, pose and background do to P.
# The lines below say for how many objects the diagonal is the largest of its row, by each measure. Then the five that
# have kin. Every one of them resembles itself more than its kin. Most resemble their kin more than any stranger; where
# one does not, the line names the stranger: our groups were a guess.
#
# Second heat maps: single photographs of the two groups; lines part the objects, and each photograph with itself has 1.
# Dark blocks along the diagonal say that the object counts more than the photograph; colour off these blocks is
# kinship. A row that is pale in its own block is a photograph that P describes badly. Look at sneaker 4: it is more
# like some shiny sneakers than like its own kind, and [lesson 10](10_your_own_images.ipynb) gives most of it to the
# wrong shoe. Two photographs before the same kind of background may be alike for that alone, since a cell also sees its
# surroundings. With five photographs or so of an object, small differences mean nothing.

# %% [markdown]
# ## Recap
#
# - Cosines of non-negative features are never negative, and seldom low. Centre them, or use Pearson's correlation,
#   before you compare classes.
# - Measure across episodes that share no image, and leave the own episode out.
# - Within a class, P and $P_q$ are much more alike than across classes; classes of one outline come next.
# - In this trained network the exchange changes a prototype by nearly the same number in all channels, which the cosine
#   sees and Pearson's correlation does not. The formula is ours: this says nothing of the paper's.
# - t-SNE keeps neighbours; what else it keeps must be measured. The silhouette falls with the gap, for perfect
#   selections as well.
# - Agreement of P and $P_q$ is a sign of a good mask, but an unsure one.
# - On photographs an object resembles itself in other photographs more than its kin, and its kin mostly more than
#   strangers.
#
# **Further reading.** Rousseeuw, *Silhouettes: a graphical aid to the interpretation and validation of cluster
# analysis*, 1987; van der Maaten and Hinton, *Visualizing data using t-SNE*, JMLR 2008; Wattenberg et al., *How to use
# t-SNE effectively*, Distill 2016; [The method](../docs/method.md#prototype-interaction-module-pim).
#
# Previous: [8 Inside the selection](08_inside_the_selection.ipynb).
# Next: [10 Your own images](10_your_own_images.ipynb)
