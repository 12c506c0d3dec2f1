# ---
# title: Serve and query
# summary: Start an OpenAI-compatible server, and steer each request by a map of its own.
# group: scale
# order: 3
# tags: [server, OpenAI API]
# minutes: 1
# memory: 1.5
# needs: [serve]
# ---

# %% [markdown]
# ## A server
# From a shell it is `dspa serve --map news=maps/news`. Here the same server runs in a thread, so
# that this page can ask it something.

# %%
import json
import threading
import time
from urllib.request import Request, urlopen

import dspa_nn as dn
from dspa_nn.serving import Engine, make_server

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
map = dspa.fit(dn.demo_triples()[:32], progress=False)
engine = Engine(dspa, {"news": map, "half": 0.5 * map}, max_tokens=24)
server = make_server(engine, port=8765)
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.1)


# %% [markdown]
# ## Ask it
# `model` names a map, or `unsteered`. `alpha`, `mode` and the other settings may be given with each
# request; the openai package puts them into `extra_body`.


# %%
def ask(**body):
    message = {"role": "user", "content": "Good news: My sister is getting married!"}
    request = Request(
        "http://127.0.0.1:8765/v1/chat/completions",
        json.dumps({"messages": [message], "temperature": 0, **body}).encode(),
        {"Content-Type": "application/json"},
    )
    return json.load(urlopen(request))


stronger = {"model": "news", "mode": "both", "alpha": 0.4}
for body in ({"model": "unsteered"}, {"model": "news"}, stronger):
    answer = ask(**body)
    print(body, "->", answer["choices"][0]["message"]["content"])

# %% [markdown]
# ## What was steered, with the answer
# `"plan": true` adds the plan, `"edits": true` every edit.

# %%
told = ask(model="news", plan=True)["dspa"]
print(sorted(told))
print(told["plan"]["ablate"][:4])

# %% [markdown]
# Requests that wait together are generated together, and each row is steered by its own map.

# %%
server.should_exit = True
engine.close()
