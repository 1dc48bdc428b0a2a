"""What `make app` serves with Voilà: the explorers as one page."""

from IPython.display import display

from dpnet_lite.explorers.page import explorer_page

display(explorer_page())
