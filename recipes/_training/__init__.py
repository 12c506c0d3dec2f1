"""What the training recipes share: texts as ids, runs with a budget that resume, and losses."""
