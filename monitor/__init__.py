"""What the numbers say: metrics, pictures, and the Streamlit app."""
