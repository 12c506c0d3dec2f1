"""`python -m dspa_nn`: the command `dspa`, where its script is not on the path."""

from dspa_nn.cli import app

if __name__ == "__main__":
    app.app(prog_name="dspa")
