"""The stages of dvc.yaml, one file each: read params, call one function of al_dgm, write outs."""
