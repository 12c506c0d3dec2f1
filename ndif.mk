# A real NDIF server on loopback, with the embedded model deployed: Linux, redis-server, no GPU needed.
.PHONY: ndif ndif-stop

ndif: $(INSTALLED)demo
	$(BIN)/python -c "from dspa_nn.embedded import model_path; model_path()"
	$(BIN)/python -m tests.ndif.server start

ndif-stop:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,python3) -m tests.ndif.server stop
