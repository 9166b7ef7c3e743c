// Starts the console.
import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./styles.css";
import { App } from "./app";
import { Plant } from "./plant";

const plant = new Plant();
const root = document.getElementById("app");
if (root) render(<App plant={plant} />, root);
plant.start();
