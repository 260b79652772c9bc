underpaint export runs/mae --to safetensors --out exported
