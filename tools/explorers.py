"""What `make app` serves with Voilà: the explorers as one page."""

from IPython.display import display

from dpnet_lite.course.explorers.apps import explorer_page

display(explorer_page())
