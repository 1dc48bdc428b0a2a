# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9. Prototype correlations: which prototypes belong together?
#
# [Start here](00_start_here.ipynb) | [3 Cycle comparison](03_cycle_comparison.ipynb) |
# [4 Prototype interaction](04_prototype_interaction.ipynb) |
# [8 Inside the selection](08_inside_the_selection.ipynb) | **9 Prototype correlations** |
# [10 Your own images](10_your_own_images.ipynb)
#
# **What you will learn.** How to measure whether prototypes of one class are alike and those of two classes are not,
# before and after the interaction; which measures mislead; and what the agreement of P and $P_q$ says about the mask.
#
# **What you need.** [Notebook 3](03_cycle_comparison.ipynb): P, $P_q$ and the precision of a selection;
# [notebook 4](04_prototype_interaction.ipynb): the interaction, which makes $P'$ and $P_q'$.
#
# **Time.** About 80 minutes: 40 to read, 40 for the exercises. The cells run in about half a minute.
#
# In a hurry, or curious? Section 9.8 is an explorer of everything that follows: click on a cell of
# the table of classes, and see the two images behind it.

# %% [markdown]
# ## 9.1 Many episodes, no two of which share an image
#
# The paper uses the correlation of P and $P_q$ to reinforce three things ![stated](../figures/badges/stated.svg). How
# alike the two are in numbers is not public. All measures of this lesson are
# ![our choice](../figures/badges/ours.svg), and so is the data: the novel classes of one fold of the drawn world, which
# the network never saw in training. Each class has an *outline* (star, ring, ...) and a *texture* (striped, tartan,
# ...), so classes can be alike in the one, in the other, or in neither.
#
# Each **episode** gives five vectors: P and $P_q$ before the interaction, $P'$ and $P_q'$ after it, and *own*, the
# prototype that the query's true mask would give. The last is no method; it is what a perfect selection would find.
#
# One trap lies in the choice of episodes. If the query of one episode is the support of another, then *own* of the
# first and P of the second are the same vector, and any comparison of episodes is flattered. So we keep only episodes
# that share no image with any other. They are then independent draws, which the intervals below rely on.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional

from dpnet_lite.course.analysis.prototypes import MEASURES, class_table, collect_prototypes, disjoint_episodes
from dpnet_lite.course.explorers.correlations import confusion, heat_map
from dpnet_lite.course.explorers.episode import toy_episodes
from dpnet_lite.course.page import claim, table
from dpnet_lite.experiments.plots import BLACK, BLUE, GREEN, ORANGE

FOLD, SCENES, PER_CLASS = 0, 600, 10
toy = toy_episodes(FOLD, gap=0.5, n_scenes=SCENES)
episodes = disjoint_episodes(toy.episodes(count=2000), per_class=PER_CLASS)
found = collect_prototypes(toy, episodes)
labels, names, vectors = found.labels, found.class_names, found.vectors
textures, outlines = np.array([name.split() for name in names]).T
images = [image for episode in episodes for image in (episode.query, *episode.support)]
assert len(images) == len(set(images))
right = found.precisions >= 0.5  # the selection lies mostly on the object
print(f"{len(labels)} episodes of {len(names)} classes; vectors of {vectors['P'].shape[1]} channels")
print(f"the selection lies mostly on the object in {right.sum()}, on something else in {(~right).sum()}")

# %% [markdown]
# ## 9.2 Which correlation?
#
# Two vectors are *alike* if they point the same way. Which way counts, depends on what one takes away first:
#
# - the **cosine**, $\cos(a, b)$, takes away nothing;
# - the **Pearson correlation**, $\cos(a - \bar a,\; b - \bar b)$, takes from each vector the mean of its *own
#   channels*, one number $\bar a$. A number added to all channels alike changes the cosine, but not this;
# - the **centred cosine**, $\cos(a - m_a,\; b - m_b)$, takes away the mean *vector* of all P, $m_a$, and that of all
#   $P_q$, $m_b$. What every class has in common is gone; what remains sets a class apart from the average.
#
# In code, for one pair:

# %%
P, P_q = vectors["P"], vectors["P_q"]  # [N, C] each
a, b = P[0], P_q[1]
by_hand = {
    "cosine": functional.cosine_similarity(a, b, dim=0),
    "Pearson correlation": functional.cosine_similarity(a - a.mean(), b - b.mean(), dim=0),
    "centred cosine": functional.cosine_similarity(a - P.mean(dim=0), b - P_q.mean(dim=0), dim=0),
}
for name, measure in MEASURES.items():
    assert torch.allclose(by_hand[name], measure(P, P_q)[0, 1], atol=1e-5)  # the package's tables, [N, N]

# %% [markdown]
# ### Exercise 9.1: before you look (predict, then run, easy, 5 minutes)
#
# The features come out of a ReLU, so no channel of a prototype is negative. The next cell draws a table of the classes
# for two of the measures: row a and column b hold the mean over pairs of a P of class a and a $P_q$ of class b.
# Predict: (1) How low can the cosine of two prototypes get? Will any cell of the upper table be dark? (2) Off the
# diagonal, which classes will be most alike: those that share the outline, or those that share the texture?
#
# <details><summary>Hint 1</summary>
#
# A cosine is a sum of products, divided by two lengths. What sign has a product of two numbers that are not negative?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Think of a channel that is strong for every object, whatever its class. What does it do to every cosine? And recall
# lesson 2: what do the maps of P light up in scenes with several objects?
#
# </details>
# <details><summary>Answer</summary>
#
# (1) Not below 0, and channels that are strong for all classes keep it well above: few cells are dark. Centring takes
# these common channels away. (2) The outline: look for dark violet blocks along the diagonal in the lower table.
#
# </details>

# %% alt=["Two heat maps of 20 classes of the drawn world. Above, the cosine: everything is above 0, the diagonal is brightest. Below, the centred cosine: the diagonal and the blocks of one outline stand out, the rest is near 0 or negative."] jupyter={"source_hidden": true}
tables = {name: class_table(measure(P, P_q), labels).numpy() for name, measure in MEASURES.items()}
figure, (above, below) = plt.subplots(2, 1, figsize=(6.2, 10.4), layout="constrained", sharex=True)
heat_map(above, tables["cosine"], names, "cosine of $P$ (rows) and $P_q$ (columns)", groups=outlines)
heat_map(below, tables["centred cosine"], names, "centred cosine", signed=True, groups=outlines)
plt.show()

# %% [markdown]
# *What to see:* the pairs of a cell come *from different episodes*, so the diagonal does not profit from the fact that
# the $P_q$ of an episode was selected with the help of the same episode's P. Above, the diagonal is brightest in nearly
# every row, but even classes that share neither outline nor texture have a cosine well above 0. Below, the common part
# is gone. The lines enclose classes of one outline: most of these blocks stand out, although their textures differ.
# Striped classes break them, and cross and flower resemble each other: the outline is the stronger clue, not the only
# one.

# %% [markdown]
# ### Exercise 9.2: class by class (write, medium, 10 minutes)
#
# Write `my_class_cosines(points, labels)` for `points` [N, C] and `labels`, whole numbers [N] from 0 to n - 1. Return
# the table [n, n]: entry (a, b) is the mean cosine over all pairs of a point of class a and a *different* point of
# class b.
#
# <details><summary>Hint 1</summary>
#
# Make the table of all N x N cosines first: bring every point to length 1, then one matrix product is enough.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The pairs of classes a and b are a bool table [N, N]: `(labels == a)[:, None] & (labels == b)[None, :]`. Take the
# diagonal of the N x N table out of it, and average what is left.
#
# </details>


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
# ## 9.3 Does the interaction bring a class together?
#
# A module that *reinforces* should make prototypes of one class more alike, or those of different classes less. Five
# kinds of pairs tell: P and $P_q$ of the *own* episode; of the same class in different episodes; of classes that share
# only the outline; only the texture; neither. The intervals are 95 % intervals of the mean: the episodes of each class
# are drawn anew, with replacement, a thousand times (a *bootstrap*), and both sides of a difference get the same draw.

# %%
from dpnet_lite.course.analysis.prototypes import pair_means
from dpnet_lite.experiments.intervals import bootstrap_weights, percentile_interval

weights = bootstrap_weights(labels, 1000)  # [1000, N]: how often each episode is drawn
same_class = (labels[:, None] == labels[None]).numpy()  # [N, N]
same_outline = outlines[labels][:, None] == outlines[labels][None]
same_texture = textures[labels][:, None] == textures[labels][None]
GROUPS = {
    "same class": same_class,
    "outline only": same_outline & ~same_class,
    "texture only": same_texture & ~same_class,
    "neither": ~same_outline & ~same_texture,
}


def group_means(values: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Mean and interval (mean, low, high) of a measure [N, N] over each kind of pairs."""
    made = {}
    for draws in (np.ones((1, len(labels))), weights):  # every episode once: the plain mean; then the draws
        own = draws @ values.diagonal() / draws.sum(axis=1)
        means = {"own episode": own} | {name: pair_means(values, pairs, draws) for name, pairs in GROUPS.items()}
        for name, mean in means.items():
            made[name] = (float(mean[0]),) if len(mean) == 1 else (*made[name], *percentile_interval(mean))
    return made


values = {
    name: [measure(vectors[p], vectors[q]).numpy() for p, q in (("P", "P_q"), ("P'", "P_q'"))]
    for name, measure in MEASURES.items()
}
before = {name: group_means(first) for name, (first, _) in values.items()}
changes = {name: group_means(second - first) for name, (first, second) in values.items()}

# %% alt=["Two panels with a row for each kind of pairs. Left, the similarity before the interaction, by three measures: highest in the own episode, then same class, same outline, and far lower for texture only and neither. Right, its change by the interaction: negative in nearly every row, for the cosine most where nothing is shared."] jupyter={"source_hidden": true}
figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", sharey=True)
STYLES = {"cosine": ("o", BLUE), "Pearson correlation": ("s", ORANGE), "centred cosine": ("D", GREEN)}
kinds = ["own episode", *GROUPS]
for panel, made, title in zip(panels, (before, changes), ("before the interaction", "change by it"), strict=True):
    for offset, (name, (marker, colour)) in zip((-0.2, 0, 0.2), STYLES.items(), strict=True):
        mean, low, high = np.array([made[name][kind] for kind in kinds]).T
        style = {"fmt": marker, "color": colour, "capsize": 3, "label": name}
        panel.errorbar(mean, np.arange(len(kinds)) + offset, xerr=[mean - low, high - mean], **style)
    panel.axvline(0, color="grey", linewidth=1)
    panel.set_title(title, fontsize=13)
    panel.tick_params(labelsize=12)
panels[0].set_yticks(range(len(kinds)), kinds)
panels[0].invert_yaxis()
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=12)
plt.show()

# %% [markdown]
# *What to see:* left, within a class P and $P_q$ are far more alike than across classes; of the other classes, those of
# the same outline come first. In the *own* episode the two are a little more alike than in two episodes of the class.
# Most of that is by construction, since $P_q$ was selected with the help of this P: for P and *own*, which no rule
# selected, the step is much smaller (the two last lines above the next table).
#
# Right, after the interaction the cosine (blue) falls in every row, and most for pairs that do not share the outline. One might
# report that the interaction drives classes apart. But by the centred cosine (green) classes that share nothing stay
# where they were, and it is pairs of *one* class that become a little less alike. Measures that disagree ask for an
# explanation. Two things happen to a prototype (lesson 4): the exchange with the other one, and the weights u. The next
# cell (folded) takes them apart: it measures P and $P_q$ after the exchange alone, and after the weights alone.

# %% jupyter={"source_hidden": true}
module, u = toy.head.interaction, found.weights  # u [N, C]
STEPS = {
    "exchange": {kind: vectors[kind + "'"] / u for kind in ("P", "P_q")},
    "weights": {kind: u * vectors[kind] for kind in ("P", "P_q")},
}
rows, by_step = {"step, measure": [], "same class": [], "neither": []}, {}
for step, made in STEPS.items():
    by_step[step] = {
        name: group_means(m(made["P"], made["P_q"]).numpy() - values[name][0]) for name, m in MEASURES.items()
    }
    for name in MEASURES:
        rows["step, measure"].append(f"{step}, {name.replace(' correlation', '')}")
        for kind in ("same class", "neither"):
            rows[kind].append("{:+.1f} [{:+.1f}, {:+.1f}]".format(*1000 * np.array(by_step[step][name][kind]) + 0.0))
change = STEPS["exchange"]["P_q"] - P_q  # [N, C]
flat = change.mean(dim=1, keepdim=True).expand_as(change)  # the part that is the same in all channels
share = (flat.square().sum(dim=1) / change.square().sum(dim=1)).mean()
print(f"learned: g1 = {float(module.g1.detach()):+.3f}, g2 = {float(module.g2.detach()):+.3f}")
print(f"{share:.1%} of what the exchange does to P_q (squared) is one number added to all channels alike")
for kind in ("P_q", "own"):
    made = group_means(functional.cosine_similarity(P[:, None], vectors[kind][None], dim=2).numpy())
    print(
        f"cosine of P and {kind}, own episode minus same class: {made['own episode'][0] - made['same class'][0]:+.3f}"
    )
table(rows, "What each step alone changes, in thousandths, for two kinds of pairs, with 95 % intervals")

# %% [markdown]
# ### Exercise 9.3: three measures, three answers (explain, medium, 10 minutes)
#
# The exchange changes the cosine of unrelated classes, and Pearson's correlation by next to nothing. The weights change
# both. Explain each from the definitions in 9.2 and from the line above the table. Which measure would you report in a
# paper, and what would you say beside it?
#
# <details><summary>Hint 1</summary>
#
# What does Pearson's correlation take away from a vector before it compares? What does the line above the table say that
# the exchange adds?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Why does the softmax of lesson 4 give every channel nearly the same number? Look at how large the entries of A are
# there, and at the sign of g.
#
# </details>
# <details><summary>Answer</summary>
#
# The softmax over the channels is nearly flat here, so each channel takes about the plain mean of the other prototype,
# times a negative g: one number is taken away from all channels alike. A constant taken away lowers the cosine of
# nearly every two non-negative vectors, most where they were least alike; Pearson's correlation removes every such
# constant first and sees next to nothing. The weights u differ from channel to channel, so both see them. By Pearson's
# correlation they make other classes less alike still more than the own class, by the centred cosine they do not touch
# them: whether the interaction parts classes depends on the measure. So report more than one, say what each ignores,
# and ask a question that needs no measure of angle at all: which class is nearest (9.4)?
#
# </details>
#
# All this holds for *our* formulas ([The method](../docs/method.md#prototype-interaction-module-pim)) in this trained
# network. The paper's formula is not public, and it may do more.

# %% [markdown]
# ## 9.4 Is the own class the nearest?
#
# A mean cosine says little about single episodes. A sharper question: take the mean P of every class, and ask which of
# them is nearest to the $P_q$ of an episode. Is it the episode's own class? Here lies one more trap: the mean of the own
# class must not contain the P of this very episode, or the episode helps itself. It is **left out**.
#
# ### Exercise 9.4: accuracy without the own episode (write, medium, 15 minutes)
#
# Write `my_nearest_accuracy(points, references, labels)` for `points` and `references` [N, C] and whole numbers
# `labels` [N]; row i of all three belongs to episode i. For each point, take the mean reference of every class, as they
# are, without reference i; the class with the largest cosine is the answer. Return the share of right answers.
#
# <details><summary>Hint 1</summary>
#
# One loop over the points is enough. Inside, `torch.arange(N) != i` says which references may be used.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Stack the means of all classes to [n, C], and compare them with the point in one call of
# `functional.cosine_similarity`. The position of the largest is the class.
#
# </details>


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
# after the interaction). *Right* and *wrong* are the episodes whose selection lies mostly on the object, and the others;
# the last column shows what the trap would have made of it.

# %%
from dpnet_lite.course.analysis.prototypes import nearest_class

REFERENCES = {"P": "P", "P_q": "P", "P'": "P'", "P_q'": "P'", "own": "P"}
nearest = {kind: nearest_class(vectors[kind], vectors[r], labels) for kind, r in REFERENCES.items()}
hits = {kind: (answer == labels).double().numpy() for kind, answer in nearest.items()}
drawn = weights / weights.sum(axis=1, keepdims=True)  # [1000, N]
rows = {name: [] for name in ("own class nearest", "right", "wrong", "trap")}
for kind, reference in REFERENCES.items():
    low, high = percentile_interval(100 * drawn @ hits[kind])
    trap = nearest_class(vectors[kind], vectors[reference], labels, leave_own_out=False)
    rows["own class nearest"].append(f"{100 * hits[kind].mean():.1f} [{low:.1f}, {high:.1f}]")
    rows["right"].append(100 * hits[kind][right].mean())
    rows["wrong"].append(100 * hits[kind][~right].mean())
    rows["trap"].append(100 * (trap == labels).double().mean().item())
caption = (
    f"% of episodes whose own class is the nearest (by chance {100 / len(names):.0f}); right, wrong: the selection"
)
table({"vector": list(REFERENCES), **rows}, caption, formats="{:.1f}")

# %% alt=["Two confusion tables of 20 classes, above for the pseudo-prototype, below for the query's own prototype. Both are bright on the diagonal; the upper one has more spots off it, most of them within blocks of one outline."] jupyter={"source_hidden": true}
figure, panels = plt.subplots(2, 1, figsize=(6.2, 10.4), layout="constrained", sharex=True)
for panel, kind, title in zip(panels, ("P_q", "own"), ("$P_q$", "the query's own prototype"), strict=True):
    heat_map(panel, confusion(found, nearest[kind]), names, f"nearest class of {title}", groups=outlines)
    panel.set_ylabel("class of the episode", fontsize=12)
plt.show()
other_class = ~np.eye(len(names), dtype=bool)
rows = {"wrong answers of": [], "how many": [], "right outline": [], "right texture": []}
for kind, whose in (("P_q", "P_q"), ("own", "own (no selection)")):
    wrong = nearest[kind] != labels
    rows["wrong answers of"].append(whose)
    rows["how many"].append(int(wrong.sum()))
    for what, part in (("right outline", outlines), ("right texture", textures)):
        rows[what].append((part[labels[wrong]] == part[nearest[kind][wrong]]).mean())
chances = [(part[:, None] == part[None])[other_class].mean() for part in (outlines, textures)]
assert all(o > t for o, t in zip(rows["right outline"], rows["right texture"], strict=True))
rows = {
    name: [*column, last]
    for (name, column), last in zip(rows.items(), ("any other class", None, *chances), strict=True)
}
table(
    rows,
    "What wrong answers share with the right class",
    formats={"right outline": "{:.0%}", "right texture": "{:.0%}", "how many": "{:.0f}"},
)

# %% [markdown]
# *What to see:* a row is the class of the episode; the colours are shares of its episodes. Most lie on the diagonal in
# both tables. The lower one has no selection that could fail, so what is off its diagonal is due to the features:
# objects of one class that look different, and classes that look alike. What the upper one has in addition is due to the
# selection: where that lies on another object, $P_q$ rarely has its own class nearest (column *wrong* of the table above).
# Wrong answers often have the right *outline*. For $P_q$ that is in part the drawn world's doing: every scene holds an
# object that shares one of the two, so a wrong selection is likely to meet one. Where no selection can fail (*own*), the
# outline is right less often, but still more often than among other classes drawn at random.
#
# The intervals take the mean P of the classes as they are: with other support episodes the means would move as well.
#
# The first table says one more thing: where the selection is wrong, P, too, has its own class nearest less often. A support
# that is not typical of its class and a wrong selection go together.

# %% [markdown]
# ## 9.5 What do pictures in two dimensions keep?
#
# Sections 9.5 and 9.6 may be skipped: the question of the mask is 9.7.
#
# No picture can show all channels. **PCA** (principal component analysis) is a projection: it turns the cloud so that
# its two longest directions lie on the paper. Distances on paper are true distances with a part missing, and the share
# of the variance that is shown can be computed. **t-SNE** moves points about until *near neighbours* in the full space
# are near on paper. It keeps who is next to whom; it is not asked to keep distances between groups, nor how wide a group
# is. Its **perplexity** says about how many neighbours count. All vectors are brought to length 1 first, since the
# cosine does not look at lengths.

# %%
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

points = functional.normalize(torch.cat([P, P_q]), dim=1).numpy()  # [2 N, C]: all P, then all P_q
layouts = {"PCA": PCA(n_components=2, random_state=0).fit_transform(points)}
for perplexity in (5, 50):
    tsne = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=0)
    layouts[f"t-SNE, perplexity {perplexity}"] = tsne.fit_transform(points)
both_labels = torch.cat([labels, labels]).numpy()
is_pseudo = np.arange(len(points)) >= len(labels)

# %% alt=["Three layouts of the same prototypes side by side: PCA, t-SNE with perplexity 5 and with 50. Classes of three outlines are coloured, the others are grey dots. Filled and hollow marks of a class lie together; PCA lays classes over one another, t-SNE pulls them apart."] jupyter={"source_hidden": true}
COLOURS = dict(zip(dict.fromkeys(outlines), (BLUE, ORANGE, GREEN), strict=False))  # the first three outlines
MARKERS = dict(zip(dict.fromkeys(textures), "osD^v", strict=True))
figure, panels = plt.subplots(1, 3, figsize=(12, 4.6), layout="constrained")
for panel, (title, layout) in zip(panels, layouts.items(), strict=True):
    for number in range(len(names)):
        for pseudo in (False, True):
            x, y = layout[(both_labels == number) & (is_pseudo == pseudo)].T
            if outlines[number] not in COLOURS:
                panel.scatter(x, y, s=6, color="#BBBBBB", zorder=0)
                continue
            colour, marker = COLOURS[outlines[number]], MARKERS[textures[number]]
            label = names[number] if not pseudo else None
            panel.scatter(
                x, y, s=34, marker=marker, facecolor="none" if pseudo else colour, edgecolor=colour, label=label
            )
    panel.set(xticks=[], yticks=[])
    panel.set_title(title, fontsize=14)
handles = panels[0].get_legend_handles_labels()
figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False, fontsize=13)
plt.show()

# %% [markdown]
# *What to see:* filled marks are P, hollow ones $P_q$; the colour is the outline, the shape of the mark the texture.
# Filled and hollow marks of a class mostly lie in the same place: $P_q$ comes from another image, and yet lands where P
# is. PCA lays many classes on top of one another; t-SNE pulls them apart, with the small perplexity into many scraps. A
# pattern that only one of the two perplexities has is not to be trusted. The next table says what each picture keeps.


# %%
def centres_and_widths(layout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances between class means, one for each two classes, and the mean distance of a class to its mean."""
    groups = [layout[both_labels == number] for number in range(len(names))]
    means = np.stack([group.mean(axis=0) for group in groups])
    between = np.linalg.norm(means[:, None] - means[None], axis=2)[np.triu_indices(len(names), 1)]
    return between, np.array([np.linalg.norm(g - m, axis=1).mean() for g, m in zip(groups, means, strict=True)])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


true = centres_and_widths(points)
kept = [[rank_correlation(a, b) for a, b in zip(centres_and_widths(x), true, strict=True)] for x in layouts.values()]
rows = {
    "layout": list(layouts),
    "neighbours": [trustworthiness(points, x, n_neighbors=10, metric="cosine") for x in layouts.values()],
    "distances between classes": [between for between, _ in kept],
    "widths of classes": [width for _, width in kept],
}
table(rows, "What each layout keeps (1: all of it)")

# %% [markdown]
# *Neighbours* is scikit-learn's trustworthiness of the ten nearest neighbours (1: all of them were neighbours before).
# The other two columns are rank correlations of a quantity on paper with the same quantity in the full space (1: same
# order, 0: unrelated). Here t-SNE even keeps the widths rather well: it may, but it is not asked to. Another fold gives other values, and the picture does not show which. So use pictures to find
# what to measure, and measure it in the full space.

# %% [markdown]
# ## 9.6 Is a class a cluster? The silhouette, as the gap grows
#
# For a point i let $a_i$ be its mean distance to the other points of its class, and $b_i$ the smallest mean distance to
# the points of another class. The **silhouette** compares the two:
#
# $$s_i = \frac{b_i - a_i}{\max(a_i, b_i)}$$
#
# It is 1 where a class is a tight cluster far from others, 0 on a border, negative where another class is nearer. The
# distance here is 1 minus the cosine. By hand, and as scikit-learn has it:

# %%
from sklearn.metrics import silhouette_samples

from dpnet_lite.course.analysis.prototypes import cosines
from dpnet_lite.course.opened_episode import ToyEpisodes

one_hot = functional.one_hot(labels).float()  # [N, n]
sums = (1 - cosines(P, P)).fill_diagonal_(0) @ one_hot  # [N, n]
sizes = one_hot.sum(dim=0)
to_own = sums[one_hot.bool()] / (sizes[labels] - 1)
to_others = (sums / sizes).masked_fill(one_hot.bool(), torch.inf).amin(dim=1)
by_hand = (to_others - to_own) / torch.maximum(to_own, to_others)
assert np.allclose(by_hand, silhouette_samples(P.numpy(), labels.numpy(), metric="cosine"), atol=1e-3)

dial = {0.0: None, 0.5: found, 1.0: None}
for gap in (0.0, 1.0):
    at_gap = ToyEpisodes(FOLD, gap=gap, n_scenes=SCENES)
    dial[gap] = collect_prototypes(at_gap, disjoint_episodes(at_gap.episodes(count=2000), per_class=PER_CLASS))

# %% alt=["The silhouette by class at the gaps 0, 0.5 and 1, for P, the pseudo-prototype, both after the interaction, and the query's own prototype. All fall steeply with the gap, to about 0; marks before and after the interaction lie at the same height."] jupyter={"source_hidden": true}
STYLES = {"P": ("o", BLUE), "P'": ("s", BLUE), "P_q": ("o", ORANGE), "P_q'": ("s", ORANGE), "own": ("D", GREEN)}
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for position, (kind, (marker, colour)) in enumerate(STYLES.items()):
    made = []
    for at_gap in dial.values():
        draws = bootstrap_weights(at_gap.labels, 1000)
        silhouettes = silhouette_samples(at_gap.vectors[kind].numpy(), at_gap.labels.numpy(), metric="cosine")
        low, high = percentile_interval(draws @ silhouettes / draws.sum(axis=1))
        made.append((silhouettes.mean(), low, high))
    mean, low, high = np.array(made).T
    style = {"color": colour, "markerfacecolor": "none" if "'" in kind else colour, "capsize": 3, "fmt": marker}
    style["label"] = f"${kind}$" if kind != "own" else kind
    axes.errorbar(np.array(list(dial)) + 0.035 * (position - 2), mean, [mean - low, high - mean], **style)
axes.legend(frameon=False, fontsize=13)
axes.axhline(0, color="grey", linewidth=1)
axes.set_xticks(list(dial))
axes.tick_params(labelsize=13)
axes.set_xlabel("gap", fontsize=14)
axes.set_ylabel("silhouette by class", fontsize=14)
plt.show()

# %% [markdown]
# *What to see:* filled and hollow marks of a colour, before and after the interaction, lie at the same height. The gap
# matters most: the more the objects of a class differ, the less the class is a cluster, for the perfect selection as
# well. So a prototype can be right for its *query* and yet look little like its *class*: a low silhouette is no proof
# of a bad selection. The interval draws the episodes' $s_i$ anew, with the distances as they are.

# %% [markdown]
# ## 9.7 Does agreement mean a better mask?
#
# If P and $P_q$ of an episode agree, may one trust the mask? Two numbers. The coefficient r is the Pearson correlation
# over episodes of a measure with the IoU. The second asks the measure to tell a right selection from a wrong one: the
# share of pairs (one right episode, one wrong) in which the right one has the higher value, known as the area under the
# ROC curve. A coin would give 0.5.

# %%
from sklearn.metrics import roc_auc_score

from dpnet_lite.experiments.intervals import weighted_auc, weighted_correlation

cosine_of = {
    "P and P_q": functional.cosine_similarity(P, P_q).numpy(),
    "P' and P_q'": functional.cosine_similarity(vectors["P'"], vectors["P_q'"]).numpy(),
    "P and own (needs the truth)": functional.cosine_similarity(P, vectors["own"]).numpy(),
    "P_q and own (needs the truth)": functional.cosine_similarity(P_q, vectors["own"]).numpy(),
}
rows = {"cosine of": list(cosine_of), "r with the IoU": [], "right above wrong": []}
for x in cosine_of.values():
    low, high = percentile_interval(weighted_correlation(x, found.ious, weights))
    rows["r with the IoU"].append(f"{np.corrcoef(x, found.ious)[0, 1]:.2f} [{low:.2f}, {high:.2f}]")
    area = percentile_interval(weighted_auc(x, right, weights))
    rows["right above wrong"].append(f"{roc_auc_score(right, x):.2f} [{area.low:.2f}, {area.high:.2f}]")
agreement = cosine_of["P and P_q"].astype(float)[right]
low, high = percentile_interval(weighted_correlation(agreement, found.ious[right], weights[:, right]))
r = np.corrcoef(agreement, found.ious[right])[0, 1]
print(f"among right selections alone, cosine of P and P_q: r = {r:.2f} [{low:.2f}, {high:.2f}]")
table(rows, "Agreement of prototypes and the mask")

# %% alt=["Two scatter plots of IoU against a cosine. Left, P and the pseudo-prototype: wrong selections, crosses at IoU near 0, lie over most of the range of right ones. Right, the pseudo-prototype and the query's own prototype: the wrong ones lie apart, at low cosines."] jupyter={"source_hidden": true}
figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
shown = (("P and P_q", "$P$ and $P_q$"), ("P_q and own (needs the truth)", "$P_q$ and own"))
for panel, (name, title) in zip(panels, shown, strict=True):
    x, wrong = cosine_of[name], {"marker": "X", "edgecolor": BLACK, "linewidth": 0.5}
    panel.scatter(x[right], found.ious[right], color=BLUE, alpha=0.6, label="selection on the object")
    panel.scatter(x[~right], found.ious[~right], color=ORANGE, label="selection elsewhere", **wrong)
    panel.set_xlabel(f"cosine of {title}", fontsize=13)
    panel.tick_params(labelsize=12)
panels[0].set_ylabel("IoU of the mask", fontsize=13)
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=13)
plt.show()

# %% [markdown]
# *What to see:* left, a measure that a method could use. Crosses, the wrong selections, lie more to the left on average,
# but over most of the range: P and $P_q$ agree there, too. No wonder: the selection looks for what is like P, so $P_q$
# is like P by construction, also where it sits on another object that shares something with the class. At gap 1 lesson 8.4 finds the
# same cosine no better than a coin. Among the right
# selections alone, a higher cosine says little or nothing of the mask (the line above the table). Right, a measure that
# needs the truth. It splits the two groups almost by definition, since it asks whether $P_q$ found the *query's* object.

# %% [markdown]
# ## 9.8 Look yourself
#
# With a running kernel: choose the world, a view and a measure, and click on a cell. Its row names the class of P, its
# column that of $P_q$. On the right you see where the two come from, and each compared with the other's image: a bright
# map on another object is a confusion that you can look at. In the view *PCA* each prototype is the crop of the image
# from which it was made. In *nearest class* the table of 9.4 is turned: here the row is the answer, the column the
# episode's class; the cell of a wrong answer shows an episode that gave it. In *heat map*, set *interaction* to *after
# minus before*: how large is what the module changes? (Here are four episodes of each class, in 9.2 ten; the maps are
# plain cosines, whatever the measure.)
#
# **Find a mistake.** In *nearest class*, click on a bright cell off the diagonal. On which object does the blue lie, and
# where is the map with P bright? Which of the two, outline or texture, do the classes of its row and column share? Do
# so for three cells, then unfold.
#
# <details><summary>Answer</summary>
#
# Most share the one or the other, though few classes do: the lines below the explorer count all wrong answers. They are
# too few to say which of the two; with more episodes, in 9.4, it is the outline. In most of them the blue lies on the
# object itself: the features took one class for another. Where it lies on another object, the selection did.
#
# </details>

# %%
from dpnet_lite.course.explorers.apps import correlation_explorer

correlation_explorer()

# %%
from dpnet_lite.course.explorers.correlations import collected

drawn_world = collected(False)[1]  # the explorer's own episodes
answer = nearest_class(drawn_world.vectors["P_q"], drawn_world.vectors["P"], drawn_world.labels)
wrong = answer != drawn_world.labels
names_of = np.array([name.split() for name in drawn_world.class_names])
shared = (names_of[answer[wrong]] == names_of[drawn_world.labels[wrong]]).sum(axis=0)
hit = int((drawn_world.precisions[wrong.numpy()] >= 0.5).sum())
assert shared.sum() > len(answer[wrong]) / 2 and 2 * hit > len(answer[wrong])
print(f"{wrong.sum()} wrong answers in the explorer: {shared[1]} share the outline, {shared[0]} the texture;")
print(f"in {hit} of them the selection lies mostly on the object")

# %% [markdown]
# On photographs: 13 objects, each before several backgrounds, of which the head saw none in training. Two groups are
# *kin*: two sneakers, and three stuffed animals. Find them in the table: are they next to each other in resemblance, too?

# %%
from dpnet_lite.datasets import OBJECTS_CREDIT

print(OBJECTS_CREDIT)
correlation_explorer(photographs=True)

# %% [markdown]
# Does an object resemble itself more than its kin, and its kin more than strangers? Every pair is of P and $P_q$ of
# different episodes, which share no photograph.

# %%
from dpnet_lite.course.analysis.prototypes import centred_cosines

photos = collected(True)[1]
alike = centred_cosines(photos.vectors["P"], photos.vectors["P_q"])  # [N, N]
of_photos = class_table(alike, photos.labels).numpy()
KIN = ({"sneaker", "shiny sneaker"}, {"teddy bear", "toy sloth", "toy wolf"})
rows = {"object": [], "itself": [], "its kin": [], "strangers, mean": [], "nearest of all others": []}
for k, name in enumerate(photos.class_names):
    kin = [j for j, other in enumerate(photos.class_names) if other != name and any({name, other} <= g for g in KIN)]
    strangers = [j for j in range(len(of_photos)) if j != k and j not in kin]
    others = [j for j in range(len(of_photos)) if j != k]
    rows["object"].append(name)
    rows["itself"].append(of_photos[k, k])
    rows["its kin"].append(of_photos[k, kin].mean() if kin else None)
    rows["strangers, mean"].append(of_photos[k, strangers].mean())
    rows["nearest of all others"].append(photos.class_names[others[int(of_photos[k, others].argmax())]])
nearest_is_own = int((of_photos.argmax(axis=1) == np.arange(len(of_photos))).sum())
print(f"{nearest_is_own} of {len(of_photos)} objects are nearer to themselves than to any other")
table(rows, "Photographs: centred cosine of an object's P with the P_q of ...")

# %% [markdown]
# *What to see:* 1 minus the first column is what light, pose, background, and a selection that misses do to an object. Are the kin next to each
# other? Toy sloth and toy wolf are, and the two sneakers so much that one of them is nearer to the other than to itself;
# the teddy bear only in part. With two or three episodes of each object, small differences mean nothing; and two photographs before the same kind of background may be alike for
# that alone, since a cell also sees its surroundings.

# %% [markdown]
# ## Recap
#
# - Cosines of non-negative features are never negative, and seldom low. Centre them, or use Pearson's correlation,
#   before you compare classes.
# - Compare episodes that share no image, and leave the own episode out.
# - In this trained network the exchange changes a prototype by nearly the same number in all channels, which the cosine
#   sees and Pearson's correlation does not. The formula is ours: this says nothing of the paper's.
# - t-SNE keeps neighbours; what else it keeps must be measured. The silhouette falls with the gap, for perfect
#   selections as well.
# - At gap 0.5, agreement of P and $P_q$ is a sign that the selection lies on the object, an unsure one; at gap 1 lesson
#   8.4 finds it no better than a coin. Of the mask beyond that it says nothing that could be measured here.

# %%
same, none = before["centred cosine"]["same class"], before["centred cosine"]["neither"]
assert same[1] > none[2]  # the intervals are apart
step = 100 * (hits["P_q'"] - hits["P_q"])
step_low, step_high = percentile_interval(drawn @ step)
assert step_low <= 0 <= step_high
missing = 100 * (hits["own"] - hits["P_q"])
missing_low, missing_high = percentile_interval(drawn @ missing)
assert missing_low > 0
assert of_photos[photos.class_names.index("sneaker")].argmax() == photos.class_names.index("shiny sneaker")
claim(
    f"P and P<sub>q</sub> of one class have a centred cosine of <b>{same[0]:.2f}</b> [{same[1]:.2f}, {same[2]:.2f}], "
    f"those of classes that share neither outline nor texture {none[0]:.2f} [{none[1]:.2f}, {none[2]:.2f}]. The "
    f"interaction brings the own class nearest in <b>{step.mean():+.1f}</b> [{step_low:+.1f}, {step_high:+.1f}] more of "
    f"100 episodes: no measurable difference. A perfect selection would: <b>{missing.mean():+.1f}</b> "
    f"[{missing_low:+.1f}, {missing_high:+.1f}]. (Drawn world, gap 0.5, one trained network; the intervals draw episodes "
    "anew, with the means of the classes as they are, and not trainings.)"
)

# %% [markdown]
# **Further reading.** Rousseeuw, *Silhouettes: a graphical aid to the interpretation and validation of cluster
# analysis*, 1987; van der Maaten and Hinton, *Visualizing data using t-SNE*, JMLR 2008; Wattenberg et al., *How to use
# t-SNE effectively*, Distill 2016; [The method](../docs/method.md#prototype-interaction-module-pim).
#
# Previous: [8 Inside the selection](08_inside_the_selection.ipynb).
# Next: [10 Your own images](10_your_own_images.ipynb)

# %%
from dpnet_lite.course.quiz import quiz

quiz("09")
