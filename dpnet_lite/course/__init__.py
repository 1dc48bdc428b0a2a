"""What the lessons stand on: opened episodes, explorers, exercises, analysis, live training."""
