"""Parts of the recipe of personas."""
