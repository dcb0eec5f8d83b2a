"""The pages of the monitor, each a script that Streamlit runs; they render, and do not compute."""
